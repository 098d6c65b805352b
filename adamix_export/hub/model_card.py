"""The model card of a bundle: a README.md as the Hub has them, whose front matter its pages are made from."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.text_format import size_text, stored_reports
from adamix_train.tasks.table import TASKS, Hub
from serve.bundle.manifest import README, Manifest

UNKNOWN_LICENSE = "unknown"
LICENSE_FIELDS = ("license", "license_name", "license_link")
CACHED = re.compile(r"models--(.+)")
METRIC_TYPES = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
"""The Hub's names of metrics, where they are not ours."""
SHAPES = {
    "merged": "One adapter inside the base's graph.",
    "bank": "The base's graph once, with adapters as inputs: the input `adapter_ids` names one for every row.",
}
WRITE = """\
```python
from serve.generate import Generator

write = Generator(".")
print(write(["name[Blue Spice]"]{adapter})[0].text)
```
"""
RUN = {
    "text-classification": """\
```python
from serve.classify import Classifier

classify = Classifier(".")
print(classify(["It never arrived."]{adapter})[0].label)
```
""",
    "text-generation": WRITE,
    "text2text-generation": WRITE,
}
"""How Python runs a bundle, by its task."""


def write_model_card(folder: Path, manifest: Manifest, sources: Sequence[Source]) -> None:
    """Write the card of the bundle in `folder`, whose other files are there already."""
    metadata = card_data(manifest, sources).to_yaml()
    (folder / README).write_text(f"---\n{metadata}\n---\n\n{_body(folder, manifest, sources)}", "utf-8")


def card_data(manifest: Manifest, sources: Sequence[Source]) -> ModelCardData:
    """Return the card's front matter."""
    hubs = [hub for source in sources if (hub := _hub(source))]
    reports = stored_reports(manifest.parity)
    return ModelCardData(
        base_model=hub_id(sources[0]),
        **_license(sources[0].base),  # type: ignore[arg-type]
        pipeline_tag=manifest.task,
        library_name="adamix",
        tags=["onnx", "onnxruntime", "adamix", "adapter", *sorted({source.config.kind for source in sources})],
        datasets=sorted({hub.path for hub in hubs}) or None,
        metrics=sorted({METRIC_TYPES.get(report.metric, report.metric) for report in reports.values()}) or None,
        model_name=_title(manifest),
        eval_results=[
            result for source in sources for result in _results(source, manifest) if result.metric_value is not None
        ]
        or None,
    )


def hub_id(source: Source) -> str | None:
    """Return the base's id on the Hub, if its folder is one of the Hub's cache."""
    found = [match[1] for part in source.base.resolve().parts if (match := CACHED.fullmatch(part))]
    return found[-1].replace("--", "/") if found else None


def base_name(source: Source) -> str:
    """Return what a base is called: its id on the Hub, or the name of its folder."""
    return hub_id(source) or source.base.resolve().name


def _hub(source: Source) -> Hub | None:
    """Return the set on the Hub that a checkpoint was trained on, if it was."""
    return None if source.card.recipe["train_file"] else TASKS[source.card.task].hub


def _license(base: Path) -> dict[str, str]:
    """Return the licence fields of the base's card, which those of its adapters follow."""
    if not (base / README).is_file():
        return {"license": UNKNOWN_LICENSE}
    data = ModelCard.load(base / README, ignore_metadata_errors=True).data.to_dict()
    found = {name: str(data[name]) for name in LICENSE_FIELDS if data.get(name)}
    return {"license": UNKNOWN_LICENSE, **found}


def _results(source: Source, manifest: Manifest) -> Iterator[EvalResult]:
    report, hub = stored_reports(manifest.parity)[source.name], _hub(source)
    yield EvalResult(
        task_type=manifest.task,
        dataset_type=hub.path if hub else report.data,
        dataset_name=hub.path if hub else report.data,
        dataset_config=hub.config if hub else None,
        metric_type=METRIC_TYPES.get(report.metric, report.metric),
        metric_name=f"{report.metric} of {source.name} in ONNX Runtime",
        metric_value=report.onnx,
    )


def _title(manifest: Manifest) -> str:
    return f"{' and '.join(manifest.adapters)} on {manifest.base['name']}"


def _body(folder: Path, manifest: Manifest, sources: Sequence[Source]) -> str:
    sections = [
        f"# {_title(manifest)}",
        f"{SHAPES[manifest.shape]} Made by [AdaMix](https://arxiv.org/abs/2205.12410): each adapter is the average of "
        "a mixture of adapters that was trained in its place.",
        "## Base",
        f"{manifest.base['name']} ({manifest.base['model_type']}), frozen. sha256 of its weights: "
        f"`{manifest.base['sha256']}`.",
        "## Adapters",
        _table(
            ("adapter", "kind", "r", "modules averaged", "longest input", "labels"),
            [
                (
                    source.name,
                    source.config.kind,
                    source.config.r,
                    _averaged(source),
                    f"{source.card.max_length} tokens",
                    ", ".join(source.card.labels) or "-",
                )
                for source in sources
            ],
        ),
        "## Data",
        _table(
            ("adapter", "task", "trained and measured on", "sha256"),
            [row for source in sources for row in _data(source)],
        ),
        "## Metrics",
        "Of the checkpoints in PyTorch, before the export.",
        _table(
            ("adapter", "metric", "value"),
            [(source.name, name, f"{value:.4f}") for source in sources for name, value in source.metrics.items()],
        ),
        "## Parity",
        f"The graph ({manifest.precision}) in ONNX Runtime against the checkpoint in PyTorch, on the same rows.",
        _parity(manifest),
        "## Sizes",
        _table(("file", "bytes", ""), _sizes(folder)),
        "## How to run it",
        "```sh\npip install 'adamix[cpu]'\nadamix-serve .          # this folder\nadamix-export verify .  # hashes and "
        "canary rows; needs adamix[export,cpu]\n```",
        _python(manifest),
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _averaged(source: Source) -> str:
    """Return how many modules are in the mean, and of how many where some were left out."""
    count = source.config.num_modules
    used = sum(share > 0 for share in source.shares) or count
    return str(count) if used == count else f"{used} of {count}"


def _data(source: Source) -> Iterator[tuple[str, ...]]:
    """Yield a row for every file, without the path, which is a machine's, and for every split of a set on the Hub."""
    hub = _hub(source)
    for name, digest in source.card.data.items():
        where = f"{hub.path} {name}" if hub and not Path(name).suffix else Path(name).name
        yield source.name, source.card.task, where, f"`{digest[:12]}`"


def _parity(manifest: Manifest) -> str:
    header = ("adapter", "rows", "data", "largest difference of a logit", "equal", "metric", "PyTorch", "ONNX")
    rows = [
        (
            name,
            report.rows,
            report.data,
            f"{report.max_difference:.1e}",
            f"{report.equal_labels:.2%}",
            report.metric,
            *("-" if value is None else f"{value:.4f}" for value in (report.pytorch, report.onnx)),
        )
        for name, report in stored_reports(manifest.parity).items()
    ]
    return _table(header, rows)


def _sizes(folder: Path) -> list[tuple[object, ...]]:
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".") and file.name != README
    )
    return [(file.relative_to(folder), file.stat().st_size, size_text(file.stat().st_size)) for file in files]


def _python(manifest: Manifest) -> str:
    adapter = f', adapter="{manifest.adapters[0]}"' if len(manifest.adapters) > 1 else ""
    return "From Python:\n\n" + RUN[manifest.task].format(adapter=adapter).rstrip() if manifest.task in RUN else ""


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)

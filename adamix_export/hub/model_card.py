"""The model card of a bundle: a README.md with the front matter that the Hub builds its pages from."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.report import read_reports
from adamix_export.precision.table import EMULATIONS
from adamix_export.text_format import size_text
from adamix_train.tasks.table import TASKS, Hub
from serve.bundle.manifest import README, Manifest

UNKNOWN_LICENSE = "unknown"
INSTALL = """\
In a clone of AdaMix's repository:

```sh
pip install '.[cpu]'
```

Then, in this folder:

```sh
adamix-serve .
adamix-export verify .  # hashes and canary texts; needs pip install '.[export,cpu]'
```"""
LICENSE_FIELDS = ("license", "license_name", "license_link")
CACHED = re.compile(r"models--(.+)")
METRIC_TYPES = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
"""The Hub's names of metrics, where they differ from ours."""
SHAPES = {
    "merged": "One adapter inside the base's graph.",
    "bank": "The base's graph once, with adapters as inputs; the input `adapter_ids` selects one for each sequence.",
}
MEMBERS = " NAME.0, NAME.1 and so on are the modules of NAME, each as an adapter of its own."
"""Sentence about the adapters of a bundle that keeps the modules of its mixtures."""
GENERATE = """\
```python
from serve import Generator

generate = Generator(".")
print(generate(["name[Blue Spice]"]{adapter})[0].text)
```
"""
RUN = {
    "text-classification": """\
```python
from serve import Classifier

classify = Classifier(".")
print(classify(["It never arrived."]{adapter})[0].label)
```
""",
    "text-generation": GENERATE,
    "text2text-generation": GENERATE,
}
"""Python example by the task of a bundle."""


def write_model_card(folder: Path, manifest: Manifest, checkpoints: Sequence[Checkpoint]) -> None:
    """Write the card of the bundle in `folder`, after all of its other files."""
    metadata = card_data(manifest, checkpoints).to_yaml()
    (folder / README).write_text(f"---\n{metadata}\n---\n\n{_body(folder, manifest, checkpoints)}", "utf-8")


def card_data(manifest: Manifest, checkpoints: Sequence[Checkpoint]) -> ModelCardData:
    """Return the card's front matter."""
    hubs = [hub for checkpoint in checkpoints if (hub := _hub(checkpoint))]
    reports = read_reports(manifest.parity)
    return ModelCardData(
        base_model=hub_id(checkpoints[0]),
        **_license(checkpoints[0].base),  # type: ignore[arg-type]
        pipeline_tag=manifest.task,
        library_name="adamix",
        tags=[
            "onnx",
            "onnxruntime",
            "adamix",
            "adapter",
            *sorted({checkpoint.kind for checkpoint in checkpoints}),
        ],
        datasets=sorted({hub.path for hub in hubs}) or None,
        metrics=sorted({METRIC_TYPES.get(report.metric, report.metric) for report in reports.values()}) or None,
        model_name=_title(manifest, checkpoints),
        eval_results=[
            result
            for checkpoint in _means(checkpoints)
            for result in _results(checkpoint, manifest)
            if result.metric_value is not None
        ]
        or None,
    )


def hub_id(checkpoint: Checkpoint) -> str | None:
    """Return the base's id on the Hub, if its folder is one of the Hub's cache."""
    found = [match[1] for part in checkpoint.base.resolve().parts if (match := CACHED.fullmatch(part))]
    return found[-1].replace("--", "/") if found else None


def base_name(checkpoint: Checkpoint) -> str:
    """Return the base's id on the Hub, or the name of its folder."""
    return hub_id(checkpoint) or checkpoint.base.resolve().name


def _hub(checkpoint: Checkpoint) -> Hub | None:
    """Return the Hub dataset that a checkpoint was trained on; None if it was files, or nothing says what it was."""
    if not checkpoint.card.data or checkpoint.card.recipe["train_file"]:
        return None
    return TASKS[checkpoint.card.task].hub


def _license(base: Path) -> dict[str, str]:
    """Return the licence fields of the base's card; adapters have the licence of their base."""
    if not (base / README).is_file():
        return {"license": UNKNOWN_LICENSE}
    data = ModelCard.load(base / README, ignore_metadata_errors=True).data.to_dict()
    found = {name: str(data[name]) for name in LICENSE_FIELDS if data.get(name)}
    return {"license": UNKNOWN_LICENSE, **found}


def _results(checkpoint: Checkpoint, manifest: Manifest) -> Iterator[EvalResult]:
    report, hub = read_reports(manifest.parity)[checkpoint.name], _hub(checkpoint)
    yield EvalResult(
        task_type=manifest.task,
        dataset_type=hub.path if hub else report.data,
        dataset_name=hub.path if hub else report.data,
        dataset_config=hub.config if hub else None,
        metric_type=METRIC_TYPES.get(report.metric, report.metric),
        metric_name=f"{report.metric} of {checkpoint.name} in ONNX Runtime",
        metric_value=report.onnx,
    )


def _title(manifest: Manifest, checkpoints: Sequence[Checkpoint]) -> str:
    return f"{' and '.join(checkpoint.name for checkpoint in _means(checkpoints))} on {manifest.base['name']}"


def _means(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints without the modules that are kept beside them."""
    return [checkpoint for checkpoint in checkpoints if not checkpoint.member_of]


def _body(folder: Path, manifest: Manifest, checkpoints: Sequence[Checkpoint]) -> str:
    base = manifest.base
    sections = [
        f"# {_title(manifest, checkpoints)}",
        f"{SHAPES[manifest.shape]} {_origin(checkpoints)}"
        + (MEMBERS if len(_means(checkpoints)) < len(checkpoints) else ""),
        "## Base",
        f"{base['name']} ({base['model_type']}), frozen. sha256 of its weights: `{base['sha256']}`.",
        "## Adapters",
        _adapters(checkpoints),
        "## Data",
        _table(
            ("adapter", "task", "trained and evaluated on", "sha256"),
            [row for checkpoint in _means(checkpoints) for row in _data(checkpoint)],
        ),
        "## Metrics",
        "Measured on the checkpoints in PyTorch, before the export.",
        _metrics(checkpoints),
        "## Parity",
        f"The graph ({_compared(manifest)}) in ONNX Runtime compared with the checkpoint in PyTorch on equal inputs.",
        _parity(manifest),
        "## Sizes",
        _table(("file", "bytes", ""), _sizes(folder)),
        "## How to run it",
        INSTALL,
        _python(manifest),
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _origin(checkpoints: Sequence[Checkpoint]) -> str:
    """Return how the adapters were made."""
    if all(checkpoint.num_modules == 1 for checkpoint in checkpoints):
        return "Exported with [AdaMix](https://arxiv.org/abs/2205.12410)."
    return (
        "Made with [AdaMix](https://arxiv.org/abs/2205.12410): an adapter of several modules is the average of a "
        "mixture of adapters that was trained in its place."
    )


def _adapters(checkpoints: Sequence[Checkpoint]) -> str:
    header = ("adapter", "kind", "r", "modules averaged", "max. input", "labels")
    rows = [
        (
            checkpoint.name,
            checkpoint.kind,
            checkpoint.r,
            _averaged(checkpoint),
            f"{checkpoint.card.max_length} tokens",
            ", ".join(checkpoint.card.labels) or "-",
        )
        for checkpoint in checkpoints
    ]
    return _table(header, rows)


def _metrics(checkpoints: Sequence[Checkpoint]) -> str:
    rows = [
        (checkpoint.name, name, f"{value:.4f}")
        for checkpoint in checkpoints
        for name, value in checkpoint.metrics.items()
    ]
    return _table(("adapter", "metric", "value"), rows)


def _averaged(checkpoint: Checkpoint) -> str:
    """Return the number of averaged modules, and the total if some have weight 0."""
    count = checkpoint.num_modules
    used = sum(weight > 0 for weight in checkpoint.weights) or count
    return str(count) if used == count else f"{used} of {count}"


def _data(checkpoint: Checkpoint) -> Iterator[tuple[str, ...]]:
    """Yield a row for every file, without its path on this machine, and for every split of a Hub dataset."""
    hub = _hub(checkpoint)
    for name, digest in checkpoint.card.data.items():
        where = f"{hub.path} {name}" if hub and not Path(name).suffix else Path(name).name
        yield checkpoint.name, checkpoint.card.task, where, f"`{digest[:12]}`"


def _compared(manifest: Manifest) -> str:
    return f"{manifest.precision}, emulated on the CPU" if manifest.precision in EMULATIONS else manifest.precision


def _parity(manifest: Manifest) -> str:
    header = ("adapter", "inputs", "data", "max. difference of a logit", "equal", "metric", "PyTorch", "ONNX")
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
        for name, report in read_reports(manifest.parity).items()
    ]
    return _table(header, rows)


def _sizes(folder: Path) -> list[tuple[object, ...]]:
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".") and file.name != README
    )
    return [(file.relative_to(folder), file.stat().st_size, size_text(file.stat().st_size)) for file in files]


def _python(manifest: Manifest) -> str:
    adapter = f', adapter="{manifest.adapters[0]}"' if len(manifest.adapters) > 1 else ""
    return "In Python:\n\n" + RUN[manifest.task].format(adapter=adapter).rstrip() if manifest.task in RUN else ""


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)

"""From checkpoints to a bundle or an adapter, one function a shape."""

import gc
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from adamix_export.disk import require_room, writing
from adamix_export.errors import ExportError
from adamix_export.graph.bank import make_bank
from adamix_export.graph.merged import merge, weights_to
from adamix_export.model_card import base_name, write_model_card
from adamix_export.parity import Bounds, Check, Parity, require
from adamix_export.precision.calibration import Passage, collect
from adamix_export.precision.rewriting import rewrite_file
from adamix_export.precision.table import setting_of
from adamix_export.precision.weight_only import Grams
from adamix_export.repository import TOKENIZER_CONFIG, write_attributes, write_tokenizer_config
from adamix_export.source import Source
from adamix_export.tasks.table import EXPORT_TASKS, ExportTask
from adamix_train.base import check_tokenizer, load_config
from adamix_train.embeddings import check_embeddings, positions
from adamix_train.errors import BaseError
from serve.adapter import WEIGHTS, AdapterCard, read_adapter, write_card
from serve.bank import Bank
from serve.bundle import ADAPTERS, ENCODER, MODEL, TOKENIZER, Edge, Manifest, open_bundle, seal_bundle, whole_folder
from serve.classify import session_edges
from serve.seal import file_sha256
from serve.session import CPU, Choice, open_session

logger = logging.getLogger(__name__)

PACKAGES = ("adamix", "torch", "transformers", "peft", "onnx", "onnxscript")
PASSAGES = 48
"""Texts of a calibration."""
UNCHECKED = 1e9
"""Canary tolerance of a bundle that the comparison is about to open, which says more than canary rows do."""
RIGHT = "right"
"""The end of a text, which a tokenizer truncates unless it says otherwise; prompts are truncated by their kind."""
LONGEST = 2**31 - 1
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an export is checked and where it may write."""

    check: Check = field(default_factory=Check)
    tolerance: float | None = None
    """Largest difference of a logit; None takes the precision's own."""
    most_lost: float | None = None
    """Most that the metric may lose, as in `Bounds`; None takes the precision's own."""
    calibration: Path | None = None
    """Texts that decide how 4-bit weights are rounded; None takes those that the run was trained on."""
    force: bool = False
    """Replace an existing folder."""
    precision: str = "fp32"
    """A key of `PRECISIONS`."""
    slots: int = 0
    """Of a bank: room for this many adapters more, to be loaded later."""

    def __post_init__(self) -> None:
        if self.slots < 0:
            raise ExportError(f"slots is {self.slots}; it must not be negative")


def export_merged(sources: Sequence[Source], out: Path, options: Options, progress: Progress) -> dict[str, Parity]:
    """Write the bundle of one checkpoint: its adapter inside the base's graph."""
    if len(sources) != 1:
        raise ExportError(f"shape merged takes one checkpoint, not {len(sources)}; shape bank takes several")
    _refuse_slots("merged", options)
    return _export_bundle("merged", sources, out, options, progress)


def export_bank(sources: Sequence[Source], out: Path, options: Options, progress: Progress) -> dict[str, Parity]:
    """Write the bundle of any number of checkpoints: the base's graph once, the adapters as its inputs."""
    return _export_bundle("bank", sources, out, options, progress)


def export_adapter(sources: Sequence[Source], out: Path, options: Options, progress: Progress) -> dict[str, Parity]:
    """Write one standalone adapter, checked in a bank of its own."""
    if len(sources) != 1:
        raise ExportError(f"shape adapter takes one checkpoint, not {len(sources)}")
    _refuse_slots("adapter", options)
    (source,) = sources
    with whole_folder(out, force=options.force) as folder, tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        bank = Path(scratch) / "bank"
        reports = _export_bundle("bank", sources, bank, options, progress)
        written = bank / ADAPTERS / source.name
        shutil.copy(written / WEIGHTS, folder / WEIGHTS)
        write_card(folder, replace(read_adapter(written).card, parity=reports[source.name].as_dict()))
    return reports


EXPORTS: dict[str, Callable[[Sequence[Source], Path, Options, Progress], dict[str, Parity]]] = {
    "merged": export_merged,
    "adapter": export_adapter,
    "bank": export_bank,
}


def _refuse_slots(shape: str, options: Options) -> None:
    if options.slots:
        raise ExportError(f"shape {shape} has no slots: spare ones are for shape bank")


def _export_bundle(
    shape: str, sources: Sequence[Source], out: Path, options: Options, progress: Progress
) -> dict[str, Parity]:
    task = _check_together(sources)
    for source in sources:
        _check_embeddings(source)
    setting = setting_of(options.precision, sources[0].learned)
    require_room(sources[0].base, out, rewritten=setting.rewrite is not None)
    with whole_folder(out, force=options.force) as folder, writing(out):
        progress("collapsing")
        _write_tokenizer(sources, folder / TOKENIZER)
        write_tokenizer_config(sources, folder / TOKENIZER_CONFIG)
        write_attributes(folder)
        for source in sources:
            _write_adapter(
                task, source, folder / ADAPTERS / source.name, tokenizer_sha256=file_sha256(folder / TOKENIZER)
            )
            source.forget_reference()
        progress("tracing")
        _write_model(task, shape, sources, folder)
        gc.collect()  # what was traced refers to itself, and to the base
        if setting.remark:
            logger.warning("%s: %s", options.precision, setting.remark)
        if setting.rewrite is not None:
            grams = _calibrate(task, shape, sources, folder, options, progress) if setting.calibrated else {}
            progress(f"rewriting in {options.precision}")
            for file in (folder / MODEL, folder / ENCODER):
                if file.exists():
                    rewrite_file(file, partial(setting.rewrite, grams))
        manifest = replace(
            _manifest(task, shape, sources, folder), precision=options.precision, spare_slots=options.slots
        )
        if not manifest.fused_attention:
            logger.warning(
                "%s's attention is not fused: it does not go through transformers' attention interface; the graph is "
                "right, and slower",
                manifest.base["model_type"],
            )
        bounds = _bounds(setting.bounds, options)
        check = replace(options.check, limit=options.check.limit or task.rows, bounds=bounds)
        seal_bundle(folder, replace(manifest, canary_tolerance=UNCHECKED))
        progress("comparing")
        reports = task.compare(sources, open_bundle(folder), check)
        require(reports)
        worst = max(report.max_difference for report in reports.values())
        manifest = replace(
            manifest,
            parity={name: report.as_dict() for name, report in reports.items()},
            canary_tolerance=setting.canary_tolerance(worst),
        )
        seal_bundle(folder, manifest)
        write_model_card(folder, manifest, sources)
        progress("done")
    return reports


def _bounds(bounds: Bounds, options: Options) -> Bounds:
    """Return the bounds of a precision, but for those that were given."""
    given = {"tolerance": options.tolerance, "most_lost": options.most_lost}
    return replace(bounds, **{name: value for name, value in given.items() if value is not None})


def _check_together(sources: Sequence[Source]) -> ExportTask:
    """Return what the sources have learned, or raise an error if they cannot be in one bundle."""
    first = sources[0]
    if first.learned not in EXPORT_TASKS:
        raise ExportError(
            f"{first.name} was trained for {first.learned}; exported are {', '.join(EXPORT_TASKS)} so far"
        )
    for source in sources[1:]:
        if EXPORT_TASKS[source.learned].tag != EXPORT_TASKS[first.learned].tag:
            raise ExportError(
                f"{source.name} was trained for {source.learned}, {first.name} for {first.learned}: not in one bank"
            )
        if source.card.base_sha256 != first.card.base_sha256:
            raise ExportError(f"{source.name} and {first.name} were trained on different bases: a bank has one base")
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ExportError(f"two checkpoints are called {name}: name them, NAME=FOLDER")
    return EXPORT_TASKS[first.learned]


def _check_embeddings(source: Source) -> None:
    """Raise an error if the base lacks an embedding for what a text, however long, can contain."""
    config = load_config(source.base)
    check_tokenizer(source.tokenizer, str(source.folder))
    check_embeddings(source.tokenizer, config, base=str(source.folder), pairs=source.pairs)
    if source.card.max_length > (most := positions(config)):
        raise BaseError(
            f"{source.folder} was trained with a max_length of {source.card.max_length}; its base has positions for "
            f"{most} tokens: train it again with --max-length {most}"
        )


def _write_adapter(task: ExportTask, source: Source, folder: Path, *, tokenizer_sha256: str) -> None:
    folder.mkdir(parents=True)
    save_file(weights_to(source.adapter, torch.float32), folder / WEIGHTS)
    card = AdapterCard(
        name=source.name,
        sha256=file_sha256(folder / WEIGHTS),
        base_sha256=source.card.base_sha256,
        tokenizer_sha256=tokenizer_sha256,
        kind=source.config.kind,
        r=source.config.r,
        num_modules=source.config.num_modules,
        labels=source.labels,
        max_length=source.card.max_length,
        pairs=source.pairs,
        regression=source.regression,
        metric=source.card.metric,
        metrics=source.metrics,
        shares=list(source.shares),
        **task.canaries(source),
    )
    write_card(folder, card)


def _write_tokenizer(sources: Sequence[Source], file: Path) -> None:
    """Write the tokenizer without padding, and with truncation only where it is not of the end.

    Serving sets both itself; of the truncation written it takes all but the length, which each adapter has of its own.
    """
    definitions = set()
    for source in sources:
        tokenizer = Tokenizer.from_file(str(source.folder / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if source.tokenizer.truncation_side != RIGHT and not source.objective.writes:
            length = min(source.tokenizer.model_max_length, LONGEST)
            tokenizer.enable_truncation(length, direction=source.tokenizer.truncation_side)
        definitions.add(tokenizer.to_str(pretty=True))
    if len(definitions) > 1:
        raise ExportError("the checkpoints have different tokenizers: a bank has one")
    file.write_text(definitions.pop(), "utf-8")


def _write_model(task: ExportTask, shape: str, sources: Sequence[Source], folder: Path) -> None:
    first = sources[0]
    model = first.base_model()
    stacks = None
    if shape == "bank":
        stacks = make_bank(model, [source.adapter for source in sources])
    else:
        merge(model, first.adapter)
    task.write_graph(model, first.tokenizer, stacks, folder / MODEL)
    (folder / "config.json").write_text(json.dumps(model.config.to_diff_dict(), indent=2, sort_keys=True) + "\n")


def _calibrate(
    task: ExportTask, shape: str, sources: Sequence[Source], folder: Path, options: Options, progress: Progress
) -> Grams:
    """Return what the matrices of the graph meet on texts of every source, each through its adapter."""
    progress("calibrating")
    passages = [
        Passage(ids, slot)
        for slot, source in enumerate(sources, 1)
        for ids in task.passages(source, options.calibration, PASSAGES // len(sources) or 1)
    ]
    if not passages:
        logger.warning(
            "%s without texts to calibrate on rounds to the nearest values, which costs more: name some with "
            "--calibration-data",
            options.precision,
        )
        return {}
    adapters = [read_adapter(folder / ADAPTERS / source.name) for source in sources]
    edges, _ = _edges(folder / MODEL)
    return collect(folder / MODEL, passages, Bank(edges, adapters) if shape == "bank" else None)


def _manifest(task: ExportTask, shape: str, sources: Sequence[Source], folder: Path) -> Manifest:
    first = sources[0]
    inputs, outputs = _edges(folder / MODEL)
    encoder_inputs, encoder_outputs = _edges(folder / ENCODER) if (folder / ENCODER).exists() else ([], [])
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return Manifest(
        task=task.tag,
        shape=shape,
        precision="fp32",
        base={
            "name": base_name(first),
            "sha256": first.card.base_sha256,
            "model_type": config["model_type"],
        },
        pad_token_id=config.get("pad_token_id") or 0,
        adapters=[source.name for source in sources],
        inputs=inputs,
        outputs=outputs,
        encoder_inputs=encoder_inputs,
        encoder_outputs=encoder_outputs,
        start_token_id=config.get("decoder_start_token_id"),
        fused_attention=_fuses_attention(folder / MODEL),
        parity={},
        versions={**{package: version(package) for package in PACKAGES}, "onnxruntime": ort.__version__},
    )


def _fuses_attention(graph: Path) -> bool:
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return any(node.op_type.endswith("Attention") for node in nodes)


def _edges(graph: Path) -> tuple[list[Edge], list[Edge]]:
    return session_edges(open_session(graph, Choice(CPU, "to read the graph's edges")))

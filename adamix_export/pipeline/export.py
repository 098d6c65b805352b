"""From checkpoints to a bundle or an adapter, one function a shape."""

import gc
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.errors import ExportError
from adamix_export.hub.model_card import write_model_card
from adamix_export.hub.repository import TOKENIZER_CONFIG, write_attributes, write_tokenizer_config
from adamix_export.parity.comparison import Bounds, Parity, require
from adamix_export.passes.rewrite_file import rewrite_file
from adamix_export.pipeline.bundle_parts import _calibrate, _manifest, _write_adapter, _write_model, _write_tokenizer
from adamix_export.pipeline.disk_space import require_room, writing
from adamix_export.pipeline.options import Options, Progress
from adamix_export.precision.table import setting_of
from adamix_export.tasks.table import EXPORT_TASKS, ExportTask
from adamix_train.base_model.embeddings import check_embeddings, max_positions
from adamix_train.base_model.load import check_tokenizer, load_config
from adamix_train.errors import BaseError
from serve.bundle.adapter import WEIGHTS, read_adapter, write_card
from serve.bundle.checked_json import file_sha256
from serve.bundle.manifest import ADAPTERS, ENCODER, MODEL, TOKENIZER
from serve.bundle.reader import open_bundle
from serve.bundle.writer import atomic_folder, write_manifest

logger = logging.getLogger(__name__)
UNCHECKED = 1e9
"""Canary tolerance of a bundle that the comparison is about to open, which says more than canary rows do."""


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
    with atomic_folder(out, force=options.force) as folder, tempfile.TemporaryDirectory(dir=out.parent) as scratch:
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
    with atomic_folder(out, force=options.force) as folder, writing(out):
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
        write_manifest(folder, replace(manifest, canary_tolerance=UNCHECKED))
        progress("comparing")
        reports = task.compare(sources, open_bundle(folder), check)
        require(reports)
        worst = max(report.max_difference for report in reports.values())
        manifest = replace(
            manifest,
            parity={name: report.as_dict() for name, report in reports.items()},
            canary_tolerance=setting.canary_tolerance(worst),
        )
        write_manifest(folder, manifest)
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
    if source.card.max_length > (most := max_positions(config)):
        raise BaseError(
            f"{source.folder} was trained with a max_length of {source.card.max_length}; its base has positions for "
            f"{most} tokens: train it again with --max-length {most}"
        )

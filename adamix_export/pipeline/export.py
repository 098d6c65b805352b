"""From checkpoints to a bundle or an adapter; one function for each shape."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.embeddings import check_embeddings_of
from adamix_export.checkpoint.members import with_members
from adamix_export.errors import ExportError
from adamix_export.hub.model_card import write_model_card
from adamix_export.parity.bounds import Bounds
from adamix_export.parity.emulation import runnable_on_cpu
from adamix_export.parity.report import Parity, require_parity
from adamix_export.pipeline.bundle_parts import BundleBuild, make_manifest, write_adapters, write_model
from adamix_export.pipeline.disk_space import explain_write_errors, require_disk_space
from adamix_export.pipeline.memory import release_memory
from adamix_export.pipeline.options import Options, Progress
from adamix_export.pipeline.packing import require_packable, write_packed_graph
from adamix_export.pipeline.rewriting import rewrite_graphs
from adamix_export.precision.table import Setting, precision_setting
from adamix_export.tasks.table import EXPORT_TASKS, ExportTask
from serve.bundle.adapter import WEIGHTS, read_adapter, write_card
from serve.bundle.manifest import ADAPTERS, Manifest, max_canary_tolerance
from serve.bundle.reader import open_bundle, with_any_canaries
from serve.bundle.writer import atomic_folder, write_manifest

logger = logging.getLogger(__name__)
UNBOUNDED = 1e9
"""A tolerance that accepts any difference."""


def export_merged(
    checkpoints: Sequence[Checkpoint], out: Path, options: Options, progress: Progress
) -> dict[str, Parity]:
    """Write the bundle of one checkpoint, whose adapter is merged into the base's graph."""
    _require_one("merged", checkpoints, options)
    return _export_bundle("merged", checkpoints, out, options, progress)


def export_bank(
    checkpoints: Sequence[Checkpoint], out: Path, options: Options, progress: Progress
) -> dict[str, Parity]:
    """Write the bundle of any number of checkpoints: the base's graph once, with the adapters as its inputs."""
    kept = with_members(checkpoints) if options.keep_modules else checkpoints
    return _export_bundle("bank", kept, out, options, progress)


def export_adapter(
    checkpoints: Sequence[Checkpoint], out: Path, options: Options, progress: Progress
) -> dict[str, Parity]:
    """Write a standalone adapter, after comparing it with PyTorch in a bank of its own."""
    checkpoint = _require_one("adapter", checkpoints, options)
    if options.packed:
        raise ExportError(
            "shape adapter has no graph to be packed: leave --packed out, and give it to the bank's export"
        )
    with atomic_folder(out, force=options.force) as folder, tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        bank = Path(scratch) / "bank"
        reports = _export_bundle("bank", checkpoints, bank, options, progress)
        written = bank / ADAPTERS / checkpoint.name
        shutil.copy(written / WEIGHTS, folder / WEIGHTS)
        write_card(folder, replace(read_adapter(written).card, parity=reports[checkpoint.name].as_dict()))
    return reports


EXPORTS: dict[str, Callable[[Sequence[Checkpoint], Path, Options, Progress], dict[str, Parity]]] = {
    "merged": export_merged,
    "adapter": export_adapter,
    "bank": export_bank,
}
"""Exports by shape, a name in `SHAPES`; each returns a report for every checkpoint, or raises and leaves no files."""


def _require_one(shape: str, checkpoints: Sequence[Checkpoint], options: Options) -> Checkpoint:
    """Return the only checkpoint; raise an error for several, for spare slots and for modules beside it."""
    if len(checkpoints) != 1:
        raise ExportError(f"shape {shape} takes one checkpoint, not {len(checkpoints)}; shape bank takes several")
    if options.slots:
        raise ExportError(f"shape {shape} has no slots: spare ones are for shape bank")
    if options.keep_modules:
        raise ExportError(
            f"shape {shape} holds one adapter: modules are kept beside their mean in a bank, --shape bank"
        )
    return checkpoints[0]


def _export_bundle(
    shape: str, checkpoints: Sequence[Checkpoint], out: Path, options: Options, progress: Progress
) -> dict[str, Parity]:
    task = _common_task(checkpoints)
    for checkpoint in checkpoints:
        check_embeddings_of(checkpoint)
    setting = precision_setting(options.precision, checkpoints[0].objective_name)
    if options.packed:
        require_packable(checkpoints[0], task, options.precision)
    require_disk_space(checkpoints[0].base, out, rewritten=setting.rewrite is not None)
    with atomic_folder(out, force=options.force) as folder, explain_write_errors(out):
        build = BundleBuild(task=task, shape=shape, checkpoints=checkpoints, folder=folder)
        progress("collapsing")
        write_adapters(build)
        progress("tracing")
        write_model(build)
        release_memory()
        quantized = rewrite_graphs(build, setting, options, progress)
        release_memory()
        if options.packed:
            write_packed_graph(build.folder)
        manifest = make_manifest(
            build, precision=options.precision, quantized_share=quantized, spare_slots=options.slots
        )
        _warn_of_unfused_attention(manifest)
        progress("comparing")
        reports = _compare(build, manifest, setting, options)
        _seal(build, manifest, setting, reports)
        progress("done")
    return reports


def _warn_of_unfused_attention(manifest: Manifest) -> None:
    if not manifest.fused_attention:
        logger.warning(
            "%s's attention is not fused: it does not use transformers' attention interface; the graph is correct, "
            "but slower",
            manifest.base["model_type"],
        )


def _compare(build: BundleBuild, manifest: Manifest, setting: Setting, options: Options) -> dict[str, Parity]:
    """Compare the bundle with PyTorch; raise a `ParityError` if it is not within its bounds."""
    write_manifest(build.folder, manifest)
    limit = options.check.limit or build.task.default_limit
    check = replace(options.check, limit=limit, bounds=_bounds(setting.bounds, options))
    with runnable_on_cpu(with_any_canaries(open_bundle(build.folder))) as bundle:
        reports = build.task.compare(build.checkpoints, bundle, check)
    for name, report in reports.items():
        if options.approximate and options.max_metric_drop is not None and report.metric_drop is None:
            raise ExportError(
                f"{name}: --max-metric-drop bounds an approximation's metric, and nothing measures it: name labelled "
                "texts with --data, or leave it out and give --rank-energy"
            )
    require_parity(reports)
    return reports


def _seal(build: BundleBuild, manifest: Manifest, setting: Setting, reports: dict[str, Parity]) -> None:
    """Write the final manifest and the model card."""
    largest, most = max(report.max_difference for report in reports.values()), max_canary_tolerance(manifest.precision)
    if largest > most:
        raise ExportError(
            f"a logit differs by {largest:.3g} from PyTorch's: a server accepts {most:g} of a bundle in "
            f"{manifest.precision}, whatever --tolerance says; choose another precision"
        )
    manifest = replace(
        manifest,
        parity={name: report.as_dict() for name, report in reports.items()},
        canary_tolerance=min(setting.canary_tolerance(largest), most),
    )
    write_manifest(build.folder, manifest)
    write_model_card(build.folder, manifest, build.checkpoints)


def _bounds(bounds: Bounds, options: Options) -> Bounds:
    """Return the bounds of a precision, replaced by those that the options give."""
    given = {"tolerance": options.tolerance, "max_metric_drop": options.max_metric_drop}
    if options.tolerance is not None:
        bounds = replace(bounds, relative=None)
    if options.approximate and options.max_metric_drop is not None:
        given["min_agreement"] = 0.0
    return replace(bounds, **{name: value for name, value in given.items() if value is not None})


def _common_task(checkpoints: Sequence[Checkpoint]) -> ExportTask:
    """Return the task of the checkpoints, or raise an error if they cannot be in one bundle."""
    first = checkpoints[0]
    if first.objective_name not in EXPORT_TASKS:
        raise ExportError(
            f"{first.name} was trained for {first.objective_name}, which cannot be exported; known are "
            f"{', '.join(EXPORT_TASKS)}"
        )
    for other in checkpoints[1:]:
        if EXPORT_TASKS[other.objective_name].tag != EXPORT_TASKS[first.objective_name].tag:
            raise ExportError(
                f"{other.name} was trained for {other.objective_name}, {first.name} for {first.objective_name}: they "
                "cannot be in one bank"
            )
        if other.card.base_sha256 != first.card.base_sha256:
            raise ExportError(f"{other.name} and {first.name} were trained on different bases: a bank has one base")
    names = [checkpoint.name for checkpoint in checkpoints]
    for name in names:
        if names.count(name) > 1:
            raise ExportError(f"two checkpoints are called {name}: name them, NAME=FOLDER")
    return EXPORT_TASKS[first.objective_name]

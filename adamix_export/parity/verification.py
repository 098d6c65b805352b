"""Check a bundle again, on any machine: its hashes, its canary rows, and its checkpoints in PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamix_export.checkpoint.checkpoint import Source, open_source
from adamix_export.errors import ExportError, ParityError
from adamix_export.parity.comparison import Bounds, Check, Parity, difference
from adamix_export.tasks.table import EXPORT_TASKS
from adamix_export.text_format import parity_table, stored_reports
from serve.bundle.reader import Bundle, open_bundle
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator

ENGINES: dict[str, Callable[..., Any]] = {
    "text-classification": Classifier,
    "text-generation": Generator,
    "text2text-generation": Generator,
}
"""What runs a bundle, by its task; opening it compares the canary rows with what PyTorch gave for them."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was checked, and found as it should be."""

    folder: Path
    files: int
    """Whose hash holds."""
    adapters: list[str]
    """That answer their canary rows as they did in PyTorch."""
    parity: dict[str, Parity]
    """By adapter: the comparison with its checkpoint in PyTorch, if one was given."""

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON has it."""
        parity = {name: report.as_dict() for name, report in self.parity.items()}
        return {"bundle": str(self.folder), "files": self.files, "canaries": self.adapters, "parity": parity}

    def __str__(self) -> str:
        lines = [
            f"{self.folder} is whole: the sha256 of {self.files} files holds",
            f"canary rows are answered as in PyTorch: {', '.join(self.adapters)}",
        ]
        return "\n".join([*lines, parity_table(self.parity)] if self.parity else lines)


def verify(
    folder: Path,
    checkpoints: Sequence[str] = (),
    *,
    base: str | None = None,
    data: Path | None = None,
    limit: int | None = None,
    tolerance: float | None = None,
) -> Verdict:
    """Return what was checked, or raise the error of what differs.

    `checkpoints` are `[NAME=]FOLDER`; a lone one is that of a lone adapter, whatever its name. `data` and
    `limit` are those of `Check`; the bounds are those of the export, but for a `tolerance` that is given.
    """
    if data and not checkpoints:
        raise ExportError("labelled texts are compared with a checkpoint in PyTorch: name it with --against")
    bundle = open_bundle(folder)
    if bundle.manifest.task not in ENGINES:
        raise ExportError(
            f"{folder} is of task {bundle.manifest.task}; checked are {', '.join(ENGINES)} "
            "(adamix_export/verification.py)"
        )
    sources = [_source(argument, bundle, base) for argument in checkpoints]
    ENGINES[bundle.manifest.task](bundle, provider="cpu")
    check = Check(data=data, limit=limit, bounds=_bounds(bundle, tolerance))
    reports = _compare(sources, bundle, check) if sources else {}
    _require(reports)
    return Verdict(folder=folder, files=len(bundle.manifest.files), adapters=list(bundle.adapters), parity=reports)


def _source(argument: str, bundle: Bundle, base: str | None) -> Source:
    """Return a checkpoint under the name of its adapter in the bundle."""
    source = open_source(argument, base=base)
    if "=" not in argument and len(bundle.adapters) == 1:
        source = replace(source, name=next(iter(bundle.adapters)))
    if source.name not in bundle.adapters:
        raise ExportError(
            f"{bundle.folder} has no adapter {source.name}; it has {', '.join(bundle.adapters)}: say which one "
            f"{source.folder} is, NAME={source.folder}"
        )
    if source.card.base_sha256 != bundle.manifest.base["sha256"]:
        raise ExportError(f"{source.folder} was trained on another base than that of {bundle.folder}")
    if source.labels != bundle.adapters[source.name].card.labels:
        raise ExportError(f"{source.folder} has other labels than the adapter {source.name} of {bundle.folder}")
    return replace(source, shares=tuple(bundle.adapters[source.name].card.shares))


def _compare(sources: Sequence[Source], bundle: Bundle, check: Check) -> dict[str, Parity]:
    task = EXPORT_TASKS[sources[0].learned]
    if task.tag != bundle.manifest.task:
        raise ExportError(
            f"{sources[0].folder} was trained for {task.tag}, {bundle.folder} is of {bundle.manifest.task}"
        )
    return task.compare(sources, bundle, replace(check, limit=check.limit or task.rows))


def _bounds(bundle: Bundle, tolerance: float | None) -> Bounds:
    """Return the bounds of the export, with another tolerance if one is given."""
    bounds = next((report.bounds for report in stored_reports(bundle.manifest.parity).values()), Bounds())
    return bounds if tolerance is None else replace(bounds, tolerance=tolerance)


def _require(reports: Mapping[str, Parity]) -> None:
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name} does not agree with PyTorch: {difference(report)}: the bundle is of another checkpoint, or "
                "this machine computes otherwise"
            )

"""Verification of an existing bundle on any machine: hashes, canary texts and, optionally, checkpoints in PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.facts import NONE, Facts
from adamix_export.checkpoint.locate import adapter_name
from adamix_export.errors import ExportError, ParityError
from adamix_export.parity.bounds import Bounds, Check
from adamix_export.parity.emulation import runnable_on_cpu
from adamix_export.parity.report import Parity, describe_difference, read_reports
from adamix_export.tasks.table import EXPORT_TASKS
from adamix_export.text_format import parity_table
from serve.bundle.reader import Bundle, open_bundle
from serve.engines import make_engine


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Checks that a bundle has passed."""

    folder: Path
    files: int
    """Number of files whose sha256 matches."""
    adapters: list[str]
    """Adapters that reproduce PyTorch's results on their canary texts."""
    parity: dict[str, Parity]
    """Comparisons with checkpoints in PyTorch, by adapter; empty if none were given."""

    def as_dict(self) -> dict[str, Any]:
        """Return the checks for JSON output."""
        parity = {name: report.as_dict() for name, report in self.parity.items()}
        return {"bundle": str(self.folder), "files": self.files, "canaries": self.adapters, "parity": parity}

    def __str__(self) -> str:
        lines = [
            f"{self.folder} is complete: the sha256 of {self.files} files matches",
            f"canary texts give the same results as in PyTorch: {', '.join(self.adapters)}",
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
) -> Verification:
    """Return the checks that the bundle in `folder` has passed.

    `checkpoints` are `[NAME=]FOLDER`; the name may be left out if both the bundle and the list have one entry. `base`
    replaces the base model that the checkpoints name, `data` and `limit` are those of `Check`, and `tolerance`
    replaces the export's own.

    Raises:
        BundleError: a file is damaged, or an adapter does not reproduce its canary texts.
        ParityError: a checkpoint gives other results in PyTorch.
        ExportError: a checkpoint does not belong to the bundle.

    """
    if data and not checkpoints:
        raise ExportError("labelled texts are compared with a checkpoint in PyTorch: name it with --against")
    bundle = open_bundle(folder)
    opened = [_open_for(bundle, argument, base) for argument in checkpoints]
    check = Check(data=data, limit=limit, bounds=_bounds(bundle, tolerance))
    with runnable_on_cpu(bundle) as runnable:
        make_engine(runnable, provider="cpu")  # opening an engine compares the canaries with PyTorch's results
        reports = _compare(opened, runnable, check) if opened else {}
    _require_agreement(reports)
    return Verification(folder=folder, files=len(bundle.manifest.files), adapters=list(bundle.adapters), parity=reports)


def _open_for(bundle: Bundle, argument: str, base: str | None) -> Checkpoint:
    """Return a checkpoint under the name, and with the module weights, of its adapter in the bundle."""
    checkpoint = open_checkpoint(argument, base=base, facts=_facts(bundle, argument))
    if "=" not in argument and len(bundle.adapters) == 1:
        checkpoint = replace(checkpoint, name=next(iter(bundle.adapters)))
    if checkpoint.name not in bundle.adapters:
        raise ExportError(
            f"{bundle.folder} has no adapter {checkpoint.name}; it has {', '.join(bundle.adapters)}: say which one "
            f"{checkpoint.folder} is, NAME={checkpoint.folder}"
        )
    card = bundle.adapters[checkpoint.name].card
    if checkpoint.card.base_sha256 != bundle.manifest.base["sha256"]:
        raise ExportError(f"{checkpoint.folder} was trained on another base than that of {bundle.folder}")
    if checkpoint.labels != card.labels:
        raise ExportError(f"{checkpoint.folder} has other labels than the adapter {checkpoint.name} of {bundle.folder}")
    return replace(checkpoint, weights=tuple(card.shares))


def _facts(bundle: Bundle, argument: str) -> Facts:
    """Return what the bundle's adapter states, for a checkpoint of another tool that does not."""
    name = next(iter(bundle.adapters)) if "=" not in argument and len(bundle.adapters) == 1 else adapter_name(argument)
    if name not in bundle.adapters:
        return NONE
    card = bundle.adapters[name].card
    if card.canary_tokens:
        return Facts(max_length=card.max_length, prompt=card.prompt)
    task = f"{'pair-' if card.pairs else ''}{'regression' if card.regression else 'classification'}"
    return Facts(labels=tuple(card.labels), task=task, max_length=card.max_length)


def _compare(checkpoints: Sequence[Checkpoint], bundle: Bundle, check: Check) -> dict[str, Parity]:
    task = EXPORT_TASKS[checkpoints[0].objective_name]
    if task.tag != bundle.manifest.task:
        raise ExportError(
            f"{checkpoints[0].folder} was trained for {task.tag}, {bundle.folder} is of {bundle.manifest.task}"
        )
    return task.compare(checkpoints, bundle, replace(check, limit=check.limit or task.default_limit))


def _bounds(bundle: Bundle, tolerance: float | None) -> Bounds:
    """Return the bounds that the export used, with `tolerance` in place of its own if one is given."""
    bounds = next((report.bounds for report in read_reports(bundle.manifest.parity).values()), Bounds())
    return bounds if tolerance is None else replace(bounds, tolerance=tolerance, relative=None)


def _require_agreement(reports: Mapping[str, Parity]) -> None:
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name} does not agree with PyTorch: {describe_difference(report)}: the bundle was exported from "
                "another checkpoint, or this machine's arithmetic differs from that of the export"
            )

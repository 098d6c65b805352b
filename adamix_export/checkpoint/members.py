"""The modules of a mixture as checkpoints of their own, which a bank holds beside their mean."""

from collections.abc import Sequence
from dataclasses import replace

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.errors import ExportError
from adamix_train.training.module_weights import equal_weights
from serve.bundle.adapter import MAX_NAME_LENGTH


def with_members(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return each checkpoint and, after it, one for each module of its mixture: NAME, NAME.0, …, NAME.{M-1}.

    A module is its checkpoint with all of the weight on that module, in every mean.

    Raises:
        ExportError: A checkpoint has a single module, was trained on a fixed route, or its name leaves no room for the
            modules' numbers.
    """
    return [one for checkpoint in checkpoints for one in (checkpoint, *_members(checkpoint))]


def _members(checkpoint: Checkpoint) -> list[Checkpoint]:
    count = checkpoint.num_modules
    _require_modules(checkpoint, count)
    names = [f"{checkpoint.name}.{index}" for index in range(count)]
    if (length := len(names[-1])) > MAX_NAME_LENGTH:
        raise ExportError(
            f"the last module of {checkpoint.name} would have a name of {length} characters, {names[-1]}; at most "
            f"{MAX_NAME_LENGTH} are possible: give a shorter one, NAME={checkpoint.folder}"
        )
    return [
        replace(checkpoint, name=name, weights=tuple(equal_weights([index], count)), member_of=checkpoint.name)
        for index, name in enumerate(names)
    ]


def _require_modules(checkpoint: Checkpoint, count: int) -> None:
    """Raise an `ExportError` if a checkpoint has no modules that differ and are all trained."""
    if count < 2:
        raise ExportError(
            f"{checkpoint.folder} has one module, which is its adapter: leave out --keep-modules, or train with more "
            "(--num-modules)"
        )
    if checkpoint.card.recipe["routing"] == "fixed":
        raise ExportError(
            f"{checkpoint.folder} was trained on a fixed route, one module of each mixture: leave out --keep-modules"
        )

"""What there is to learn: a label, a score, or a text to write."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from adamix_train.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """How the targets of a kind of task are read and split."""

    noun: str
    """What a target is called."""
    check: Callable[[str, tuple[str, ...] | None, str], str]
    """Returns a target as an example has it; takes the value, the names of labels if any, and where it stood."""
    stratified: bool = False
    """Whether a split takes its share of each target."""
    grouped: bool = False
    """Whether examples with the same input stay on one side of a split: they are wordings of one text."""


def _label(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    if labels is None or value in labels:
        return value
    if not value.isdecimal() or int(value) >= len(labels):
        raise DataError(f"{where}: label {value!r} is not one of 0 to {len(labels) - 1}, nor {', '.join(labels)}")
    return labels[int(value)]


def _score(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    try:
        finite = math.isfinite(float(value))
    except ValueError:
        finite = False
    if not finite:
        raise DataError(f"{where}: score {value!r} is not a finite number")
    return value


def _text(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    return value


TASK_KINDS: dict[str, TaskKind] = {
    "classification": TaskKind(noun="label", check=_label, stratified=True),
    "regression": TaskKind(noun="score", check=_score),
    "generation": TaskKind(noun="target", check=_text, grouped=True),
}

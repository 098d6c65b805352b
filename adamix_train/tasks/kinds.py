"""Kinds of tasks: predict a label, predict a score, or generate a text."""

from collections.abc import Callable
from dataclasses import dataclass

from adamix_train.data.values import is_finite_number
from adamix_train.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """Rules by which the targets of a kind of task are checked and data is split."""

    noun: str
    """Name of a target in error messages."""
    check: Callable[[str, tuple[str, ...] | None, str], str]
    """Takes a value, the task's label names and the value's place; returns the target or raises DataError."""
    stratified: bool = False
    """Splits sample each label separately."""
    grouped: bool = False
    """Splits keep examples with the same input, which are several references for it, together."""


MOST_DIGITS = 9
"""Digits of a label's number; Python refuses to read some thousand."""


def _label(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    if labels is None or value in labels:
        return value
    if not value.isdecimal() or len(value) > MOST_DIGITS or int(value) >= len(labels):
        raise DataError(f"{where}: label {value!r} is not one of 0 to {len(labels) - 1}, nor {', '.join(labels)}")
    return labels[int(value)]


def _score(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    if not is_finite_number(value):
        raise DataError(f"{where}: score {value!r} is not a finite number")
    return value


def _text(value: str, labels: tuple[str, ...] | None, where: str) -> str:
    return value


TASK_KINDS: dict[str, TaskKind] = {
    "classification": TaskKind(noun="label", check=_label, stratified=True),
    "regression": TaskKind(noun="score", check=_score),
    "generation": TaskKind(noun="target", check=_text, grouped=True),
}

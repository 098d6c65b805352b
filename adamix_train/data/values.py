"""Texts of the values that data files hold."""

import json
import math
from collections.abc import Iterable
from typing import Any

from adamix_train.errors import DataError

KINDS: dict[type, str] = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
"""Type of a value → its name in errors."""


def as_text(value: Any, noun: str, place: str, source: object) -> str:
    """Return a text unchanged, and a number or a truth value as text; 1.0 is `1`.

    Args:
        value: what the file holds.
        noun: what the value is to the task, for errors.
        place: the row's place in the file.
        source: the file.

    Raises:
        DataError: the value is missing, of another type, or a text that is not whole Unicode.
    """
    if isinstance(value, list) and noun == "label":
        raise DataError(
            f"{source}: the label of {place} is a list; several labels for one text are multi-label data, and "
            "adamix-train trains one label a text: keep one, or train one yes-or-no run for each label"
        )
    if type(value) not in KINDS:
        found = "null" if value is None else f"a {type(value).__name__}"
        raise DataError(f"{source}: the {noun} of {place} is {found}; it takes a text or a number")
    if not isinstance(value, str):
        whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
        return json.dumps(int(value) if whole else value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{source}: the {noun} of {place} holds half a character ({value[error.start]!r}), which no tokenizer "
            "reads: it was cut or decoded wrongly"
        ) from error
    return value


def check_label_types(labels: Iterable[tuple[Any, str]], source: object) -> None:
    """Raise DataError if labels, each with its place, are of several types, or one number in several ways."""
    kinds: dict[str, tuple[Any, str]] = {}
    numbers: dict[float, tuple[str, str]] = {}
    for label, place in labels:
        kinds.setdefault(KINDS.get(type(label), ""), (label, place))
        if isinstance(label, str) and (number := _number(label)) is not None:
            written, first = numbers.setdefault(number, (label.strip(), place))
            if written != label.strip():
                raise DataError(
                    f"{source}: the labels {written!r} ({first}) and {label.strip()!r} ({place}) are one number: write "
                    "it in one way"
                )
    kinds.pop("", None)
    if len(kinds) > 1:
        found = ", ".join(f"{kind} in {place} ({label!r})" for kind, (label, place) in kinds.items())
        raise DataError(f"{source}: the labels are of several types: {found}; write all of them as one")


def _number(text: str) -> float | None:
    if text.startswith("0") and text[1:2].isdigit():  # a code such as 007
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_finite_number(text: str) -> bool:
    """Return True if a text is a number, other than an infinite one or NaN."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

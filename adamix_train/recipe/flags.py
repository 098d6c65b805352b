"""Make a recipe from a YAML or TOML file and from flags, one for each field."""

import argparse
import difflib
import os
import tomllib
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from adamix_train.errors import RecipeError, one_line
from adamix_train.recipe.recipe import Recipe
from adamix_train.recipe.stored import current_fields

NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
ALIASES = {"r": ("rank",)}
"""Field → further names of its flag. torchrun takes `--r` for the beginning of a flag of its own."""
FORMATS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}
UNFIT = (LookupError, AttributeError)
"""Errors that PyYAML does not mean to raise: a value does not fit its tag, as in !!bool x."""
MAX_QUOTED = 200
"""Characters of a value that an error quotes."""


def add_flags(parser: argparse._ArgumentGroup) -> None:
    """Add a flag for each field of a recipe; flags that are not given leave no attribute."""
    for item in fields(Recipe):
        default = "required" if item.default is MISSING else f"default: {item.default}"
        kind = _plain_type(item.name)
        settings: dict[str, Any] = (
            {"action": argparse.BooleanOptionalAction}
            if kind is bool
            else {"type": kind, "choices": item.metadata["choices"]}
        )
        parser.add_argument(
            *("--" + name.replace("_", "-") for name in (item.name, *ALIASES.get(item.name, ()))),
            dest=item.name,
            default=argparse.SUPPRESS,
            help=item.metadata["help"] + ("" if "default:" in item.metadata["help"] else f" ({default})"),
            **settings,
        )


def make_recipe(file: Path | None, flags: dict[str, Any]) -> Recipe:
    """Return the recipe in `file` with its fields overridden by `flags`.

    Raises:
        RecipeError: the file cannot be read, or a field is unknown, missing or impossible.
    """
    values = {**(_read(file) if file else {}), **flags}
    known = [item.name for item in fields(Recipe)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) if isinstance(name, str) else []
            raise RecipeError(
                f"unknown field {_quoted(name)} in {file}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    missing = [item.name for item in fields(Recipe) if item.default is MISSING and item.name not in values]
    if missing:
        raise RecipeError(
            f"the recipe lacks {', '.join(missing)}: give a flag (--{missing[0].replace('_', '-')}) or a field"
        )
    return Recipe(**{name: _checked(name, value) for name, value in values.items()})


def _read(file: Path) -> dict[str, Any]:
    if file.suffix not in FORMATS:
        raise RecipeError(f"recipe {file} ends in {file.suffix or 'nothing'}; recipes end in {', '.join(FORMATS)}")
    try:
        values = FORMATS[file.suffix](file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read recipe {file}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError, *UNFIT) as error:
        reason = "a value does not fit its tag" if isinstance(error, UNFIT) else one_line(error)
        raise RecipeError(f"recipe {file} is not valid {file.suffix[1:].upper()}: {reason}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {file} holds no fields")
    return current_fields(values)


def _checked(name: str, value: Any) -> Any:
    expected = _plain_type(name)
    if expected is bool and isinstance(value, bool):
        return value
    wrong = RecipeError(f"{name} is {_quoted(value)}; it takes {NOUNS[expected]}")
    if value is None or isinstance(value, bool) or expected is bool:
        if value is None and type(None) in typing.get_args(typing.get_type_hints(Recipe)[name]):
            return None
        raise wrong
    try:
        if isinstance(value, list) and name.endswith("_file"):
            value = ",".join(map(str, value))
        if isinstance(value, list | dict):
            raise wrong
        converted = expected(value)
        whole = expected is not int or converted == float(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise wrong from error
    if not whole:
        raise RecipeError(f"{name} is {_quoted(value)}; it takes a whole number")
    if expected is str and not _can_be_named(converted):
        raise RecipeError(f"{name} is {_quoted(value)}; it takes a text without null characters, in whole Unicode")
    return converted


def _can_be_named(text: str) -> bool:
    """Return True for a text that a file can be called."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _quoted(value: Any) -> str:
    """Return a value as an error quotes it; Python writes out no number of more than 4,300 digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a value of the type {type(value).__name__} that is too long to show"
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def _plain_type(name: str) -> type:
    hint = typing.get_type_hints(Recipe)[name]
    return next((part for part in typing.get_args(hint) if part is not type(None)), hint)

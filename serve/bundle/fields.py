"""Read a dataclass from JSON, after checking the type and the bounds of every value.

A file's hashes may be right and its content wrong: they say that it is whole, not that it makes sense.
"""

import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from serve.errors import BundleError, shortened

T = TypeVar("T")
MAX_QUOTED = 60
"""Characters of a value that an error quotes."""


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest value of a number, or length of a text or list; both are accepted."""

    least: float
    most: float


MAX_COUNT = 2**31 - 1
Count = Annotated[int, Bounds(0, MAX_COUNT)]
"""A whole number that is not negative."""
TokenId = Annotated[int, Bounds(0, MAX_COUNT)]
"""A row of the base's embeddings."""
Tokens = Annotated[int, Bounds(1, 2**24)]
"""Length of an input in tokens."""
Name = Annotated[str, Bounds(0, 1024)]
"""A short text."""
Text = Annotated[str, Bounds(0, 2**20)]
"""A text such as a prompt."""
Sha256 = Annotated[str, Bounds(64, 64)]
"""A hash in hexadecimal."""
Ids = Annotated[list[TokenId], Bounds(1, 2**16)]
"""Token ids of a row; at least one."""


def read_fields(kind: type[T], content: Any, where: str) -> T:
    """Return the dataclass `kind` that a JSON object stands for.

    Args:
        kind: A dataclass; a field's bounds are in its annotation, `Annotated[int, Bounds(0, 9)]`.
        content: The object; fields that have a default may be missing.
        where: Name of the object in an error, such as the path of its file.

    Raises:
        BundleError: A field is missing, unknown, of another type or out of bounds.
    """
    if not isinstance(content, dict):
        raise BundleError(f"{where} is {_quoted(content)} rather than an object: export it again")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(content.keys() - known.keys()):
        raise BundleError(f"{where} has the unknown field {_quoted(unknown[0])}: it is of another version")
    required = (field for field in known.values() if field.default is MISSING and field.default_factory is MISSING)
    if missing := [field.name for field in required if field.name not in content]:
        raise BundleError(f"{where} lacks the field {missing[0]}: it is of another version, or damaged")
    hints = _hints(cast(Hashable, kind))
    return kind(**{name: _read(hints[name], value, f"{where}: {name}") for name, value in content.items()})


def read_value(hint: Any, value: Any, where: str) -> Any:
    """Return a value that is of a type and within its bounds, as `read_fields` does.

    Raises:
        BundleError: It is not.
    """
    return _read(hint, value, where)


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(cast(type, kind), include_extras=True)


def _read(hint: Any, value: Any, where: str) -> Any:
    """Return a value that fits a type, with its objects as dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _any(value, where)
    if origin is Annotated:
        return _bounded(arguments[1], _read(arguments[0], value, where), where)
    if origin in (Union, types.UnionType):
        return _read(_option(arguments, value, where), value, where)
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], one, f"{where}[{index}]") for index, one in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_read(arguments[0], key, where): _read(arguments[1], one, where) for key, one in value.items()}
    if is_dataclass(hint):
        return read_fields(hint, value, where)  # type: ignore[arg-type]
    if hint in CHECKS and CHECKS[hint](value):
        return value
    raise BundleError(f"{where} is {_quoted(value)}: expected {EXPECTED.get(origin or hint, 'another value')}")


def _any(value: Any, where: str) -> Any:
    """Return a JSON value of any form; what it consists of is sent to clients."""
    if isinstance(value, list | dict):
        for one in [*value, *value.values()] if isinstance(value, dict) else value:
            _any(one, where)
    elif not any(check(value) for check in CHECKS.values()):
        raise BundleError(f"{where} has {_quoted(value)} in it, which is no finite number or valid Unicode")
    return value


def _option(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return the one of several types that a value is of."""
    for option in options:
        plain = get_args(option)[0] if get_origin(option) is Annotated else option
        if plain in CHECKS and CHECKS[plain](value):
            return option
    raise BundleError(f"{where} is {_quoted(value)}: expected {' or '.join(map(_expected, options))}")


def _expected(hint: Any) -> str:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return EXPECTED.get(plain, "another value")


def _bounded(bounds: Bounds, value: Any, where: str) -> Any:
    size = value if isinstance(value, int | float) else len(value)
    if not bounds.least <= size <= bounds.most:
        found = "is" if size is value else "has the length"
        raise BundleError(f"{where} {found} {_quoted(size)}: expected {bounds.least} to {bounds.most}; export it again")
    return value


def _is_text(value: Any) -> bool:
    """Return True for a text that can be encoded: one without lone surrogates and null characters."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """Return True for a number that a float holds."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:
        return False


CHECKS: Mapping[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: _is_whole,
    float: _is_finite,
    str: _is_text,
    type(None): lambda value: value is None,
}
"""Checks of plain values by type."""
EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text in valid Unicode",
    type(None): "null",
    list: "a list",
    dict: "an object",
}
"""What an error says of a type."""


def _quoted(value: Any) -> str:
    """Return a value as an error quotes it: on one line, and shortened."""
    if isinstance(value, list | dict):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return shortened(ascii(value) if isinstance(value, str) else str(value), MAX_QUOTED)

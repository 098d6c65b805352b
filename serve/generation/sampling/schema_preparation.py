"""JSON schemas before they are compiled: values that llguidance would change, and formats that it does not know."""

from collections.abc import Mapping
from typing import Any

from serve.errors import InputError

EXACT = 2**53
"""Largest whole number that llguidance keeps as it is."""
FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid", "unknown"}
)
"""Formats that llguidance follows; any other is an annotation, as JSON Schema has it."""
VALUES = ("const", "enum")
"""Keywords whose values are texts' own, rather than schemas."""
NOTES = ("default", "examples")
"""Keywords whose values mean nothing for a text."""
MAX_PLACE = 200
"""Characters of a place that an error quotes."""


def prepared(schema: Any, place: str = "") -> Any:
    """Return a schema without formats that llguidance does not know.

    Raises:
        InputError: A value would be rounded.
        RecursionError: The schema is too deep.
    """
    if isinstance(schema, list):
        return [prepared(one, f"{place}/{index}") for index, one in enumerate(schema)]
    if not isinstance(schema, Mapping):
        return schema
    kept = {}
    for name, value in schema.items():
        where = f"{place}/{name}"
        if name in VALUES and not isinstance(value, Mapping):
            _check_exact(value, where)
        elif name == "format" and isinstance(value, str) and value not in FORMATS:
            continue
        kept[name] = value if name in VALUES or name in NOTES else prepared(value, where)
    return kept


def _check_exact(value: Any, place: str) -> None:
    """Raise an InputError if a value holds a whole number that would be rounded."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            _check_exact(one, f"{place}/{index}")
    elif isinstance(value, int) and abs(value) > EXACT:
        raise InputError(
            f"json_schema has {value} at {place[:MAX_PLACE]}, which would be rounded: numbers go up to 2^53 there, "
            "larger ones are given as strings",
            "json_schema",
        )

"""JSON schemas before they are compiled, and the places in them at which llguidance gives up."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from serve.errors import InputError

FIELD = "json_schema"
"""The field of a request that holds the schema."""
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
NAMED = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords whose values are schemas by name."""
NEUTRAL: Mapping[str, Any] = {"uniqueItems": False, "unevaluatedProperties": True, "unevaluatedItems": True}
"""Values with which a keyword that llguidance does not know asks for nothing."""
UNKNOWN = frozenset(
    {
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"),
        *NEUTRAL,
    }
)
"""Keywords that llguidance does not know."""
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
FAULTS: Mapping[str, tuple[Sequence[str], str]] = {
    "integer range": (BOUNDS, "give bounds from -2^53 to 2^53, or leave them out"),
    "float range": (BOUNDS, "give bounds from -2^53 to 2^53, or leave them out"),
    "oneOf": (("oneOf",), "its alternatives cannot be told apart: use anyOf"),
    "maxProperties": (("minProperties", "maxProperties"), "they are known only where all properties are required"),
    "NoExtensionBias": (("$ref",), "the reference leads back to itself"),
    "retriev": (("$ref",), "other documents are not read: put their schemas into $defs"),
    "regex": (("pattern", "patternProperties"), "look-around, word boundaries and back-references are not known"),
}
"""Words of llguidance's messages, with the keywords that may be at fault and what is wrong with them.

The first that is in a message counts: that of a range of numbers speaks of a regex as well.
"""
MAX_PLACE = 200
"""Characters of a place that an error quotes."""
MAX_PLACES = 3
"""Places that an error quotes."""


def prepared(schema: Any, place: str = "", source: str = FIELD) -> Any:
    """Return a schema without formats that llguidance does not know, and without keywords that ask for nothing.

    Args:
        schema: The schema.
        place: Its place in a schema that holds it.
        source: Name of that one in errors: a field, or a part of a field behind a dot.

    Raises:
        InputError: A value would be rounded, or llguidance does not know a keyword.
        RecursionError: The schema is too deep.
    """
    if isinstance(schema, list):
        return [prepared(one, f"{place}/{index}", source) for index, one in enumerate(schema)]
    if not isinstance(schema, Mapping):
        return schema
    kept = {}
    for name, value in schema.items():
        where = f"{place}/{name}"
        if name in VALUES:
            _check_exact(value, where, source)
        elif name in UNKNOWN:
            if NEUTRAL.get(name) is value:
                continue
            fault = f'{source} has "{name}" at {where[:MAX_PLACE]}: this keyword is not known'
            raise InputError(fault, source.partition(".")[0])
        elif name == "format" and isinstance(value, str) and value not in FORMATS:
            continue
        elif name in NAMED and isinstance(value, Mapping):
            kept[name] = {key: prepared(one, f"{where}/{key}", source) for key, one in value.items()}
            continue
        kept[name] = value if name in VALUES or name in NOTES else prepared(value, where, source)
    return kept


def explained(fault: str, schema: Any, source: str = FIELD) -> str:
    """Return llguidance's message about a schema with the keyword at fault, its places, and what is wrong with it.

    Args:
        fault: The message.
        schema: The schema.
        source: Its name in errors.
    """
    for word, (keywords, reason) in FAULTS.items():
        if word in fault and (places := list(islice(_places(schema, keywords), MAX_PLACES + 1))):
            more = ", …" if len(places) > MAX_PLACES else ""
            named = ", ".join(place[:MAX_PLACE] for place in places[:MAX_PLACES])
            return f"{source} cannot be followed at {named}{more}: {reason}"
    return fault


def _places(schema: Any, keywords: Sequence[str], place: str = "") -> Iterator[str]:
    """Yield the places of keywords."""
    if isinstance(schema, list):
        for index, one in enumerate(schema):
            yield from _places(one, keywords, f"{place}/{index}")
    elif isinstance(schema, Mapping):
        for name, value in schema.items():
            where = f"{place}/{name}"
            if name in keywords:
                yield where
            if name in NAMED and isinstance(value, Mapping):
                for key, one in value.items():
                    yield from _places(one, keywords, f"{where}/{key}")
            elif name not in VALUES and name not in NOTES:
                yield from _places(value, keywords, where)


def _check_exact(value: Any, place: str, source: str) -> None:
    """Raise an InputError if a value holds a whole number that would be rounded."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            _check_exact(one, f"{place}/{index}", source)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            _check_exact(one, f"{place}/{name}", source)
    elif isinstance(value, int) and abs(value) > EXACT:
        raise InputError(
            f"{source} has {value} at {place[:MAX_PLACE]}, which would be rounded: numbers go up to 2^53 there, "
            "larger ones are given as strings",
            source.partition(".")[0],
        )

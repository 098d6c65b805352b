import json
import re
from typing import Any

import pytest
from llguidance import LLTokenizer

from serve.errors import InputError
from serve.generation.sampling.schema_preparation import EXACT, FORMATS, NEUTRAL, UNKNOWN, explained, prepared
from serve.generation.sampling.schema_worker import compile_schema

BYTES = LLTokenizer("byte")


def follows(schema: Any, text: str) -> bool:
    """Whether a text is complete under a schema."""
    matcher, tokens = compile_schema(json.dumps(prepared(schema)), BYTES), BYTES.tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize("number", [EXACT, -EXACT, 0])
def test_numbers_up_to_2_to_the_53_are_exact(number: int) -> None:
    for schema in ({"const": number}, {"enum": [number]}):
        assert follows(schema, str(number))
        assert not follows(schema, str(number - 1))


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"const": EXACT + 1}, "/const"),
        ({"enum": ["a", 1234567890123456789]}, "/enum/1"),
        ({"properties": {"id": {"enum": [[-EXACT - 1]]}}}, "/properties/id/enum/0/0"),
        ({"anyOf": [{}, {"const": EXACT + 1}]}, "/anyOf/1/const"),
        ({"const": {"id": EXACT + 1}}, "/const/id"),
    ],
)
def test_larger_values_are_refused_by_their_place(schema: Any, place: str) -> None:
    with pytest.raises(InputError, match=f" at {place}, which would be rounded: numbers go up to 2\\^53"):
        prepared(schema)


def test_a_bound_beyond_that_stays_a_bound() -> None:
    assert follows({"type": "integer", "maximum": 2**63 - 1}, "5")


@pytest.mark.parametrize("name", ["password", "binary", "path", "directory-path"])
def test_an_unknown_format_is_an_annotation(name: str) -> None:
    """Of pydantic's SecretStr, bytes and Path."""
    assert follows({"type": "object", "properties": {"a": {"type": "string", "format": name}}}, '{"a": "any"}')


def test_known_formats_are_followed() -> None:
    assert follows({"type": "string", "format": "date"}, '"2024-02-29"')
    assert not follows({"type": "string", "format": "date"}, '"today"')
    for name in FORMATS - {"unknown"}:
        compile_schema(json.dumps(prepared({"type": "string", "format": name})), BYTES)


def test_a_property_or_a_value_called_format_is_none() -> None:
    schema = {"properties": {"format": {"const": {"format": "path"}}}, "default": {"format": "path"}}
    assert prepared(schema) == schema


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_a_keyword_that_is_not_known_is_refused_by_its_place(name: str) -> None:
    schema = {"properties": {name: {"anyOf": [{"type": "string"}, {name: {}}]}}}
    with pytest.raises(InputError, match=f'has "{re.escape(name)}" at /properties/{re.escape(name)}/anyOf/1/'):
        prepared(schema)
    with pytest.raises(ValueError, match="Unimplemented keys"):
        compile_schema(json.dumps({name: {}}), BYTES)


def test_keywords_that_ask_for_nothing_are_left_out() -> None:
    assert prepared({"type": "array", **NEUTRAL}) == {"type": "array"}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"a": {"type": "string", "pattern": "^(?=.*x)"}}}, "at /properties/a/pattern: look-around"),
        ({"type": "integer", "minimum": -(2**63)}, "at /minimum: give bounds from"),
        (
            {"properties": {"a": {"type": "string", "pattern": "x"}, "b": {"type": "integer", "minimum": -(2**63)}}},
            "at /properties/b/minimum: give bounds from",
        ),
        ({"type": "number", "maximum": 1e300}, "at /maximum: give bounds from"),
        ({"oneOf": [{"type": "string", "minLength": 1}, {"type": "string"}]}, "at /oneOf: its alternatives"),
        ({"properties": {"oneOf": {}}, "maxProperties": 1}, "at /maxProperties: they are known only"),
        ({"$ref": "http://example.org/a.json"}, "at /\\$ref: other documents are not read"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "at /\\$defs/a/\\$ref, /\\$ref: the reference"),
        (
            {"properties": {name: {"type": "string", "pattern": "\\bx"} for name in "abcd"}},
            "/c/pattern, …: look-around",
        ),
        ({"type": "nothing"}, "Invalid type: nothing"),
    ],
)
def test_a_fault_names_keyword_and_place(schema: Any, told: str) -> None:
    with pytest.raises(ValueError, match="cannot be followed") as fault:
        compile_schema(json.dumps(prepared(schema)), BYTES)
    assert re.search(told, explained(f"json_schema {fault.value}", schema))

import json
from typing import Any

import pytest
from llguidance import LLTokenizer

from serve.errors import InputError
from serve.generation.sampling.schema_preparation import EXACT, FORMATS, prepared
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

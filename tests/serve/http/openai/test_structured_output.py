"""Forms of texts, and the grammars that they become, on a tokenizer of single bytes."""

import json
from typing import Any

import pytest
from llguidance import LLTokenizer
from pydantic import ValidationError

from serve.errors import InputError
from serve.generation.sampling.schema_worker import compile_schema
from serve.http.openai.structured_output import ResponseFormat, StructuredOutputs, TextForm

BYTES = LLTokenizer("byte")


def form(**given: Any) -> TextForm:
    return StructuredOutputs.model_validate(given).text_form()


def response_form(**given: Any) -> TextForm:
    return ResponseFormat.model_validate(given).text_form()


def follows(one: TextForm, text: str) -> bool:
    """Whether a text is complete under a form."""
    matcher = compile_schema(json.dumps(one.json_schema if one.grammar is None else one.grammar), BYTES)
    tokens = BYTES.tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def test_a_response_format_is_free_or_any_object_or_under_a_schema() -> None:
    assert response_form(type="text") == TextForm()
    assert response_form(type="json_object") == TextForm({"type": "object"})
    schema = {"type": "integer"}
    strict = {"name": "number", "description": "Of stars.", "strict": True, "schema": schema}
    assert response_form(type="json_schema", json_schema=strict) == TextForm(schema)
    for missing in (None, {}, {"schema": None}):
        with pytest.raises(InputError, match="json_schema has no schema"):
            response_form(type="json_schema", json_schema=missing)
    for kind in ("text", "json_object"):
        with pytest.raises(InputError, match=f"response_format has json_schema, but its type is {kind}"):
            response_form(type=kind, json_schema=strict)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"type": "grammar"}, "type"),
        ({"type": "json_object", "schema": {"type": "integer"}}, "schema"),
        ({"type": "text", "colour": 1}, "colour"),
        ({"type": "json_schema", "json_schema": {"schema": {}, "colour": 1}}, "json_schema.colour"),
        ({"type": "json_schema", "json_schema": {"schema": 1}}, "json_schema.schema"),
    ],
)
def test_unknown_fields_of_a_response_format_are_refused_by_name(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        response_form(**given)
    assert [".".join(map(str, one["loc"])) for one in refused.value.errors()] == [name]


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        ({"json": {"type": "integer"}}, ["7"], ["seven"]),
        ({"json": '{"type": "integer"}'}, ["7"], ["seven"]),
        ({"json_object": True}, ["{}", '{"a": 1}'], ["7"]),
        ({"regex": "[a-c]+/\\d\n?"}, ["abc/1", "a/2\n"], ["abc", "abc/x", "xabc/1"]),
        ({"regex": r"a\/b"}, ["a/b"], ["ab"]),
        ({"regex": "a\\\nb\\\\\nc"}, ["a\nb\\\nc"], ["a\\nb\\\nc", "anb\\\nc"]),
        ({"choice": [f"text {number}" for number in range(2000)]}, ["text 0", "text 199", "text 1999"], ["text 2000"]),
        ({"choice": ["yes", 'no "or"\nso']}, ["yes", 'no "or"\nso'], ["no", "yes yes"]),
        ({"grammar": 'start: "a" NUMBER\nNUMBER: /[0-9]+/'}, ["a1"], ["a", "1"]),
        ({"grammar": 'root ::= "yes" | "no" num\nnum ::= [0-9]+'}, ["yes", "no12"], ["no", "maybe"]),
    ],
)
def test_texts_follow_their_form(given: dict[str, Any], good: list[str], bad: list[str]) -> None:
    assert [follows(form(**given), text) for text in good] == [True] * len(good)
    assert [follows(form(**given), text) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "structured_outputs has 0 of json, regex, choice, grammar, json_object: give one"),
        ({"regex": "a", "choice": ["a"]}, "structured_outputs has 2 of"),
        ({"choice": []}, "choice has no texts, or an empty one"),
        ({"choice": [""]}, "choice has no texts, or an empty one"),
        ({"json": "{"}, "structured_outputs.json is no JSON"),
        ({"json": "7"}, "structured_outputs.json is no JSON schema: give an object"),
    ],
)
def test_a_form_that_is_none_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        form(**given)
    assert refused.value.field == "structured_outputs"


def test_an_unknown_form_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="structural_tag"):
        form(structural_tag="x")
    with pytest.raises(ValidationError, match="structural_tag"):
        form(json={"type": "integer"}, structural_tag="x")

"""Chats with tools over a decoder of bytes: schemas of tools are followed exactly, or refused by tool and place."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fixtures.byte_decoder import byte_tokenizer

DEEP = {"not closed": "[" * 20_000, "valid": "[" * 985 + "]" * 985, "an object": '{"a":' * 985 + "1" + "}" * 985}
"""Texts of JSON that are deeper than a body may be."""
USER = [{"role": "user", "content": "Rain?"}]
EXACT = 2**53


def tool(parameters: Any, name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def taking(schema: Any, **others: Any) -> dict[str, Any]:
    """The parameters of a function that takes one value, x."""
    return {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"],
        "additionalProperties": False,
        **others,
    }


def ask(client: TestClient, **body: Any) -> Any:
    asked = {"model": "base", "messages": USER, "max_tokens": 120, **body}
    return client.post("/v1/chat/completions", json=asked)


def refusal(client: TestClient, **body: Any) -> dict[str, Any]:
    response = ask(client, **body)
    assert response.status_code == 422, response.text
    found: dict[str, Any] = response.json()["error"]
    return found


def arguments(client: TestClient, parameters: Any) -> Any:
    response = ask(client, tools=[tool(parameters)], tool_choice="required", parallel_tool_calls=False)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    return json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("schema", [{"const": EXACT}, {"enum": [-EXACT]}, {"const": "a", "format": "path"}])
def test_arguments_are_the_schemas_own_values(chat_client: TestClient, schema: Any) -> None:
    values = schema.get("enum", [schema.get("const")])
    assert arguments(chat_client, taking(schema)) == {"x": values[0]}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            taking({"enum": [1, 1234567890123456789]}),
            " has 1234567890123456789 at /properties/x/enum/1, which would be",
        ),
        (taking({"const": EXACT + 1}), f" has {EXACT + 1} at /properties/x/const, which would be rounded"),
        (taking({"not": {}}), ' has "not" at /properties/x/not: this keyword is not known'),
        (taking({"type": "array", "uniqueItems": True}), ' has "uniqueItems" at /properties/x/uniqueItems: this'),
        (
            taking({"oneOf": [{"type": "string", "minLength": 1}, {"type": "string"}]}),
            " cannot be followed at /properties/x/oneOf: its alternatives cannot be told apart: use anyOf",
        ),
        (taking({"type": "string", "pattern": "(?=a)b"}), " cannot be followed at /properties/x/pattern: look-around"),
        (taking({"type": "nothing"}), " cannot be followed: Invalid type: nothing"),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_schema_of_a_tool_is_refused_by_tool_and_place(
    chat_client: TestClient, schema: Any, message: str, choice: str
) -> None:
    tools = [tool(taking({"type": "string", "pattern": "a"}), "first"), tool(schema, "second")]
    found = refusal(chat_client, tools=tools, tool_choice=choice)
    assert found["message"].startswith(f"tools.1 (second){message}")
    assert found["param"] == "tools"


def test_so_is_a_schema_inside_a_grammar(chat_client: TestClient) -> None:
    grammar = 'start: "a" number # %json\nnumber: "%json" | %json {"enum": [1234567890123456789]}'
    found = refusal(chat_client, structured_outputs={"grammar": grammar})
    assert found["message"].startswith("structured_outputs.number has 1234567890123456789 at /enum/0, which would be")
    assert found["param"] == "structured_outputs"
    found = refusal(chat_client, structured_outputs={"grammar": "start: %json {1}"})
    assert found["message"].startswith("structured_outputs.start has no JSON behind %json")


FORMAT = {"type": "json_schema", "json_schema": {"name": "z", "schema": {"const": "zzz"}}}


@pytest.mark.parametrize(("excluded", "expected"), [("<", ('"zzz"', [])), ('"', (None, ['{"x": 1}']))])
def test_a_text_that_calls_nothing_follows_the_format(
    chat_client: TestClient, excluded: str, expected: tuple[str | None, list[str]]
) -> None:
    """A text of the format begins with a quote, and a call with its mark."""
    first = byte_tokenizer().encode(excluded).ids[0]
    body = {"tools": [tool(taking({"const": 1}))], "response_format": FORMAT, "parallel_tool_calls": False}
    response = ask(chat_client, **body, logit_bias={str(first): -100})
    assert response.status_code == 200, response.text
    message = response.json()["choices"][0]["message"]
    calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
    assert (message["content"], calls) == expected


@pytest.mark.parametrize(
    ("form", "choice", "message"),
    [
        (
            {"response_format": FORMAT},
            "required",
            "response_format goes without tools here: tool_choice asks for calls",
        ),
        ({"structured_outputs": {"regex": "a+"}}, "auto", "structured_outputs goes without tools here: a call cannot"),
    ],
)
def test_a_format_that_no_text_would_follow_is_refused(
    chat_client: TestClient, form: dict[str, Any], choice: str, message: str
) -> None:
    found = refusal(chat_client, tools=[tool(taking({"const": 1}))], tool_choice=choice, **form)
    assert found["message"].startswith(message)
    assert found["param"] == next(iter(form))


def test_tools_that_are_not_to_be_called_leave_the_text_its_form(chat_client: TestClient) -> None:
    tools = [tool(taking({"const": 1}))]
    response = ask(chat_client, tools=tools, tool_choice="none", response_format=FORMAT)
    assert response.json()["choices"][0]["message"]["content"] == '"zzz"'
    found = refusal(chat_client, tools=tools, tool_choice="none", structured_outputs={"regex": "("})
    assert found["param"] == "structured_outputs"


def test_a_format_beside_tools_is_refused_by_its_place(chat_client: TestClient) -> None:
    wrong = {"type": "json_schema", "json_schema": {"schema": taking({"const": EXACT + 1})}}
    found = refusal(chat_client, tools=[tool(taking({"const": 1}))], response_format=wrong)
    assert found["message"].startswith(f"response_format has {EXACT + 1} at /properties/x/const")


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_json_in_a_text_is_no_deeper_than_a_body(chat_client: TestClient, text: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": text}}
    found = refusal(chat_client, messages=[*USER, {"role": "assistant", "tool_calls": [call]}])
    assert found["message"].startswith("the arguments of a call of f are no JSON: recursion limit exceeded")
    assert found["param"] == "messages"
    found = refusal(chat_client, structured_outputs={"json": text})
    assert found["message"].startswith("structured_outputs.json is no JSON: recursion limit exceeded")
    found = refusal(chat_client, structured_outputs={"grammar": f"start: %json {text}"})
    assert found["message"].startswith(("structured_outputs.start has no JSON", "structured_outputs holds no JSON"))


def test_a_schema_that_is_too_deep_is_refused_as_a_schema(chat_client: TestClient) -> None:
    found = refusal(chat_client, structured_outputs={"json": '{"allOf":[' * 90 + "{}" + "]}" * 90})
    assert found["message"].startswith("structured_outputs is no JSON schema: recursion limit exceeded")


@pytest.mark.parametrize("text", ["[1]", "null", '"a"', "7"])
def test_arguments_of_a_call_are_an_object(chat_client: TestClient, text: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": text}}
    found = refusal(chat_client, messages=[*USER, {"role": "assistant", "tool_calls": [call]}])
    assert found["message"] == "the arguments of a call of f are no JSON object: give one, or {}"
    call["function"] = {"name": "f", "arguments": ""}
    assert ask(chat_client, messages=[*USER, {"role": "assistant", "tool_calls": [call]}]).status_code == 200


def test_parameters_of_a_function_are_an_objects_schema(chat_client: TestClient) -> None:
    for kind in ("string", ["object", "null"], None):
        found = refusal(chat_client, tools=[tool({"type": kind})])
        assert found["message"] == f"the parameters of f are of type {json.dumps(kind)}: give object"
        assert found["param"] == "tools"
    assert arguments(chat_client, {"maxProperties": 0}) == {}


def test_a_beam_search_goes_without_tools_by_that_name(chat_client: TestClient) -> None:
    found = refusal(chat_client, tools=[tool(taking({"const": 1}))], use_beam_search=True, n=2)
    assert found["message"] == "tools: a beam search goes without, leave out either"
    assert found["param"] == "tools"

"""Tool calls, as the models of two forms write them."""

import json
from typing import Any

import pytest
from llguidance import LLTokenizer

from serve.engine import ToolForm
from serve.errors import InputError
from serve.generation.sampling.schema_worker import compile_schema
from serve.http.openai.tool_calls import NO_TOOLS, SYNTAXES, Tool, ToolUse, tool_use
from tests.fixtures.chat_templates import WEATHER
from tests.fixtures.toy_engine import ToyEngine

BYTES = LLTokenizer("byte")
TOOLS = [Tool.model_validate(WEATHER), Tool(type="function", function={"name": "now"})]  # type: ignore[arg-type]
OSLO = '{"name": "weather", "arguments": {"city": "Oslo"}}'
NOW = '{"name": "now", "arguments": {}}'


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


def llama(call: str) -> str:
    return call.replace("arguments", "parameters")


class CallingEngine(ToyEngine):
    """A toy whose model calls tools."""

    def __init__(self, form: ToolForm | None) -> None:
        super().__init__()
        self.form = form

    def models(self) -> list[Any]:
        from dataclasses import replace

        return [replace(one, tools=self.form) for one in super().models()]


def use(form: ToolForm, choice: str | dict[str, Any] = "auto", *, parallel: bool = True) -> ToolUse:
    return tool_use(CallingEngine(form), None, TOOLS, choice, parallel=parallel)


def follows(tools: ToolUse, text: str) -> bool:
    matcher, tokens = compile_schema(json.dumps(tools.text_form().grammar), BYTES), BYTES.tokenize_str(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def read(tools: ToolUse, text: str, size: int) -> tuple[str, list[tuple[str, Any]]]:
    """The content and the calls of a text that comes in pieces of some size."""
    reader = tools.reader()
    pieces = [reader.push(text[at : at + size]) for at in range(0, len(text), size)]
    rest, calls = reader.end()
    functions = [call["function"] for call in calls]
    return "".join(pieces) + rest, [(one["name"], json.loads(one["arguments"])) for one in functions]


@pytest.mark.parametrize("call", [OSLO, NOW])
def test_a_call_follows_the_schema_of_its_function(call: str) -> None:
    for form, text in ((ToolForm.HERMES, hermes(call)), (ToolForm.LLAMA, llama(call))):
        for choice in ("auto", "required"):
            assert follows(use(form, choice), text)
            assert not follows(use(form, choice), text.replace("Oslo", "Rome").replace("{}", "[]"))
            assert not follows(use(form, choice), text.replace("weather", "storm").replace("now", "then"))


@pytest.mark.parametrize("form", SYNTAXES)
def test_a_text_without_a_call_is_free_unless_one_is_required(form: ToolForm) -> None:
    for text in ("", "It rains.", "a < b <tool", "one\ntwo"):
        assert follows(use(form), text)
        assert not follows(use(form, "required"), text)


def test_calls_follow_a_text_and_each_other_in_the_form_of_hermes() -> None:
    several = hermes(OSLO, NOW)
    assert follows(use(ToolForm.HERMES), f"Let me see.\n{several}")
    assert follows(use(ToolForm.HERMES, "required"), several)
    assert not follows(use(ToolForm.HERMES, "required", parallel=False), several)
    assert not follows(use(ToolForm.HERMES), "Let me see. <tool_call>nothing")


def test_a_named_function_is_the_only_one() -> None:
    choice = {"type": "function", "function": {"name": "now"}}
    assert follows(use(ToolForm.LLAMA, choice), llama(NOW))
    assert not follows(use(ToolForm.LLAMA, choice), llama(OSLO))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_content_and_calls_are_told_apart_however_the_text_is_cut(size: int) -> None:
    calls = [("weather", {"city": "Oslo"}), ("now", {})]
    assert read(use(ToolForm.HERMES), hermes(OSLO, NOW), size) == ("", calls)
    assert read(use(ToolForm.HERMES), f"Well <tool {hermes(NOW)}", size) == ("Well <tool ", calls[1:])
    assert read(use(ToolForm.LLAMA), llama(OSLO), size) == ("", calls[:1])
    for form in SYNTAXES:
        assert read(use(form), "plain < text {}", size) == ("plain < text {}", [])
    assert read(NO_TOOLS, hermes(OSLO), size) == (hermes(OSLO), [])


def test_a_call_that_was_cut_off_is_content() -> None:
    cut = hermes(OSLO)[:-20]
    assert read(use(ToolForm.HERMES), cut, 4) == (cut, [])
    assert read(use(ToolForm.LLAMA), '{"name": "no', 4) == ('{"name": "no', [])


def test_tools_that_are_not_to_be_called_are_left_out() -> None:
    assert use(ToolForm.HERMES, "none") == NO_TOOLS
    assert tool_use(CallingEngine(None), None, [], "auto", parallel=True) == NO_TOOLS


@pytest.mark.parametrize(
    ("form", "tools", "choice", "message", "field"),
    [
        (None, TOOLS, "auto", "toy calls no tools", "tools"),
        (ToolForm.HERMES, [], "required", "tool_choice goes with tools, of which there are none", "tool_choice"),
        (ToolForm.HERMES, TOOLS, "any", 'tool_choice is "any": give none, auto, required', "tool_choice"),
        (
            ToolForm.HERMES,
            TOOLS,
            {"type": "function", "function": {"name": "now"}, "colour": 1},
            "give none, auto, required, or one of the tools",
            "tool_choice",
        ),
        (
            ToolForm.HERMES,
            TOOLS,
            {"type": "function", "function": {"name": "storm"}},
            "give none, auto, required, or one of the tools",
            "tool_choice",
        ),
    ],
)
def test_what_cannot_be_called_is_refused(
    form: ToolForm | None, tools: list[Tool], choice: Any, message: str, field: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        tool_use(CallingEngine(form), None, tools, choice, parallel=True)
    assert refused.value.field == field


def test_what_a_model_writes_is_a_call_only_where_it_is_json_that_can_be_sent() -> None:
    for value in ("[" * 20_000, "[" * 985 + "]" * 985, r'"\ud800"'):
        text = hermes('{"name": "now", "arguments": ' + value + "}")
        assert read(use(ToolForm.HERMES), text, 1000) == (text, [])

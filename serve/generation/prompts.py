"""Prompts, encoded as in training."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from serve.adapters.base_adapter import is_base
from serve.bundle.adapter import Adapter, AdapterCard
from serve.engine import ChatForm, ToolForm
from serve.errors import InputError
from serve.generation.chat_template import ChatTemplate
from serve.limits import DEFAULT_CHAT_TOKENS, DEFAULT_MAX_NEW_TOKENS
from serve.requests import Chat, PromptInput
from serve.runtime.tokenization import (
    CHARACTERS_PER_TOKEN,
    check_characters,
    check_ids,
    check_vocabulary,
    decode,
    encode,
    is_empty,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt and the adapter that continues it."""

    input_ids: list[int]
    """(tokens,), special tokens included; the encoder's input where there is an encoder."""
    adapter: Adapter
    text: str = ""
    """The prompt as the model reads it."""
    default_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    """Most tokens of a text whose request does not say how many."""


@dataclass(frozen=True, kw_only=True)
class PromptLimits:
    """Bounds of a request's prompts, beside the adapter's own."""

    truncate: bool = True
    """Cut prompts that are too long; otherwise they are an InputError."""
    max_tokens: int | None = None
    """Cut prompts to so many tokens, however long they may be."""
    context: int | None = None
    """Most tokens of a prompt that leaves room for what is to be generated."""


class PromptEncoder:
    """Encodes the inputs of an adapter's task, chats, and prompts that are encoded already."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int | None,
        is_encoder_decoder: bool,
        template: ChatTemplate | None = None,
    ) -> None:
        """Encode with a bundle's tokenizer, which never truncates by itself.

        Args:
            tokenizer: The bundle's tokenizer.
            vocab_size: Number of tokens that the base model has embeddings for; None checks nothing.
            is_encoder_decoder: The prompt is the input of an encoder.
            template: Chat template of the base.
        """
        self.tokenizer, self.vocab_size, self.is_encoder_decoder = tokenizer, vocab_size, is_encoder_decoder
        self.template = template or ChatTemplate({}, {})
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def encode(
        self, prompt: PromptInput, adapter: Adapter, *, truncate: bool = True, limits: PromptLimits | None = None
    ) -> Prompt:
        """Return an encoded prompt; `limits` takes the place of `truncate`.

        A prompt that is too long loses its beginning; the input of an encoder loses the end of its text.

        Raises:
            InputError: The text is empty or not valid Unicode, it has a token without an embedding or, without
                `truncate`, the prompt is longer than the adapter's maximum.
        """
        card, limits = adapter.card, limits or PromptLimits(truncate=truncate)
        text, ids = self._encoded(prompt, adapter)
        if limits.max_tokens is not None:
            ids = self._truncated(ids, limits.max_tokens)
        if limits.truncate:
            ids = self._truncated(ids, min(card.max_length, limits.context or card.max_length))
        if len(ids) > card.max_length:
            raise InputError(
                f"the prompt has {len(ids)} tokens, {card.name} reads {card.max_length} at most: "
                "shorten it, or set truncate to true",
                "prompts",
            )
        check_vocabulary(ids, self.tokenizer, self.vocab_size)
        is_chat = isinstance(prompt, Chat) and self.chat_form(card) is ChatForm.TEMPLATE
        return Prompt(list(ids), adapter, text, DEFAULT_CHAT_TOKENS if is_chat else DEFAULT_MAX_NEW_TOKENS)

    def chat_form(self, card: AdapterCard) -> ChatForm | None:
        """Return the form in which an adapter, or the base, reads the messages of a chat."""
        if not is_base(card):
            return ChatForm.PROMPT
        return ChatForm.TEMPLATE if self.template else None

    def tool_form(self, card: AdapterCard) -> ToolForm | None:
        """Return the form in which an adapter, or the base, calls tools."""
        return self.template.tool_form if is_base(card) else None

    def _encoded(self, prompt: PromptInput, adapter: Adapter) -> tuple[str, Sequence[int]]:
        """Return the text of a prompt and its tokens."""
        card = adapter.card
        if isinstance(prompt, Chat) and self.chat_form(card) is not ChatForm.PROMPT:
            text = self.template.render(prompt)
            return text, encode(self.tokenizer, text, add_special_tokens=False).ids
        if isinstance(prompt, Chat):
            prompt = _only_message(prompt, card)
        if isinstance(prompt, str):
            if is_empty(prompt):
                raise InputError("the text is empty", "prompts")
            text = card.prompt.replace("{input}", prompt)
            return text, encode(self.tokenizer, text).ids
        self._check_ids(prompt)
        return decode(self.tokenizer, prompt), prompt

    def _check_ids(self, ids: Sequence[int]) -> None:
        """Raise an InputError if token ids are none, or not of this vocabulary."""
        if not ids:
            raise InputError("the prompt is empty", "prompts")
        size = self.vocab_size or self.tokenizer.get_vocab_size()
        if wrong := [token for token in ids if not 0 <= token < size]:
            raise InputError(f"the prompt has token {wrong[0]}: there are 0 to {size - 1}", "prompts")

    def _truncated(self, ids: Sequence[int], most: int) -> Sequence[int]:
        """Return at most `most` tokens, cut as in training."""
        if len(ids) <= most:
            return ids
        if self.is_encoder_decoder:
            return [*ids[: most - 1], ids[-1]]
        return ids[len(ids) - most :]


def characters_of(prompt: PromptInput) -> int:
    """Return the characters of a prompt that are tokenized, or of the text that its tokens are turned into."""
    match prompt:
        case str():
            return len(prompt)
        case Chat():
            return sum(len(str(message)) for message in prompt.messages)
    return len(prompt) * CHARACTERS_PER_TOKEN


def check_size(prompt: PromptInput, max_tokens: int) -> None:
    """Raise an InputError if a prompt is far too long for `max_tokens` tokens to be read of it."""
    if isinstance(prompt, str | Chat):
        check_characters(characters_of(prompt), max_tokens)
    else:
        check_ids(len(prompt), max_tokens)


def _only_message(chat: Chat, card: AdapterCard) -> str:
    """Return the one message of a chat with an adapter that was trained on a prompt rather than a chat template."""
    if len(chat.messages) != 1 or chat.messages[0]["role"] != "user":
        roles = ", ".join(str(message["role"]) for message in chat.messages)
        raise InputError(
            f"adapter {card.name} was trained on one input in the prompt {card.prompt!r}: send one message of the "
            f"user, not {roles or 'none'}",
            "messages",
        )
    _check_without_template(chat, card)
    text: str = chat.messages[0]["content"]
    return text


def _check_without_template(chat: Chat, card: AdapterCard) -> None:
    """Raise an InputError if a chat of one message has what only a chat template reads."""
    given = {
        "tools": chat.tools,
        "variables": chat.variables,
        "add_generation_prompt": not chat.add_generation_prompt,
    }
    others = [(name, name) for name, value in given.items() if value]
    others += [(f"a message's {name}", "messages") for name in chat.messages[0] if name not in ("role", "content")]
    for name, field in others:
        reason = f"adapter {card.name} was trained without one"
        raise InputError(f"{name} goes with a chat template, and {reason}: leave it out", field)

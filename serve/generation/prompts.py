"""Prompts, encoded as in training."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from serve.bundle.adapter import Adapter, AdapterCard
from serve.errors import InputError
from serve.runtime.tokenization import check_vocabulary, encode


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt and the adapter that continues it."""

    input_ids: list[int]
    """(tokens,), special tokens included; the encoder's input where there is an encoder."""
    adapter: Adapter


class PromptEncoder:
    """Encodes the inputs of an adapter's task."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int | None, is_encoder_decoder: bool) -> None:
        """Encode with a bundle's tokenizer, which never truncates by itself.

        Args:
            tokenizer: The bundle's tokenizer.
            vocab_size: Number of tokens that the base model has embeddings for; None checks nothing.
            is_encoder_decoder: The prompt is the input of an encoder.
        """
        self.tokenizer, self.vocab_size, self.is_encoder_decoder = tokenizer, vocab_size, is_encoder_decoder
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def encode(self, text: str, adapter: Adapter, *, truncate: bool = True) -> Prompt:
        """Return the prompt of an input.

        A prompt that is too long loses its beginning; the input of an encoder loses the end of its text.

        Raises:
            InputError: The text is empty or not valid Unicode, it has a token without an embedding or, without
                `truncate`, the prompt is longer than the adapter's maximum.
        """
        card = adapter.card
        if not text.strip():
            raise InputError("the text is empty")
        ids = encode(self.tokenizer, card.prompt.replace("{input}", text)).ids
        if len(ids) > card.max_length:
            if not truncate:
                raise InputError(
                    f"the prompt has {len(ids)} tokens, {card.name} reads {card.max_length} at most: "
                    "shorten it, or set truncate to true"
                )
            ids = self._truncated(ids, card)
        check_vocabulary(ids, self.tokenizer, self.vocab_size)
        return Prompt(ids, adapter)

    def _truncated(self, ids: list[int], card: AdapterCard) -> list[int]:
        """Return at most `max_length` tokens, cut as in training."""
        if self.is_encoder_decoder:
            return [*ids[: card.max_length - 1], ids[-1]]
        return ids[-card.max_length :]

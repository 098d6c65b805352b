"""The tokenizer of a bundle for clients that ask for tokens rather than for answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from serve.errors import InputError
from serve.runtime.tokenization import CHARACTERS_PER_TOKEN, TokenizerThreads, check_characters, decode, tokenize
from serve.tokenized_text import TokenizedText

MAX_ID = 1 << 32
"""Tokenizers have smaller ids alone."""


@dataclass(frozen=True, kw_only=True)
class TextCodec:
    """Tokenizes texts, and puts tokens together again."""

    tokenizer: Tokenizer
    """It neither truncates nor pads."""
    threads: TokenizerThreads
    max_length: int
    """Most tokens of an input of the model."""
    config: Mapping[str, Any]
    """Content of `tokenizer_config.json`, with special tokens as texts."""

    async def tokenize(self, text: str, *, special_tokens: bool = True) -> TokenizedText:
        """Return the tokens of a text, which may be longer than the model reads.

        Raises:
            InputError: The text is far too long, or not valid Unicode.
        """
        check_characters(len(text), self.max_length)

        def tokenized() -> TokenizedText:
            encoding = tokenize(self.tokenizer, text, add_special_tokens=special_tokens, offsets=True)
            special = [bool(one) for one in encoding.special_tokens_mask]
            return TokenizedText(encoding.ids, encoding.tokens, special, encoding.offsets)

        return await self.threads.run(tokenized, len(text))

    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of tokens.

        Raises:
            InputError: An id is not in the vocabulary.
        """

        def detokenized() -> str:
            wrong = next((one for one in ids if not 0 <= one < MAX_ID or self.tokenizer.id_to_token(one) is None), None)
            if wrong is not None:
                raise InputError(f"there is no token {wrong}", "tokens")
            return decode(self.tokenizer, ids, skip_special_tokens=skip_special_tokens)

        return await self.threads.run(detokenized, len(ids) * CHARACTERS_PER_TOKEN)

"""Incremental detokenization: whole characters only, and nothing that a stop string may still remove."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from tokenizers import Tokenizer

from serve.generation.token_decoder import TokenDecoder, byte_level, decoder_factory

REPLACEMENT = "\ufffd"
"""Decoders put it in the place of bytes that are no character."""
BYTE_NAME = re.compile(r"<0x([0-9A-F]{2})>")
"""Names of the byte tokens of SentencePiece."""


class IncrementalDetokenizer:
    """Turns tokens into text piece by piece; the pieces together are the text."""

    def __init__(
        self, decoder: TokenDecoder, stop: Sequence[str] = (), *, keep_stop: bool = False, min_tokens: int = 0
    ) -> None:
        """Begin a text.

        Args:
            decoder: A new decoder, for this text alone.
            stop: Strings that end the text.
            keep_stop: The string that ends the text is a part of it.
            min_tokens: Stop strings do not end the text before it has so many tokens.
        """
        self.decoder, self.stop, self.keep_stop, self.min_tokens = decoder, list(stop), keep_stop, min_tokens
        self.offsets: list[int] = []
        """For each token, the characters of the text that were certain before it."""
        self.text = ""
        """The text so far, without a stop string that is no part of it."""
        self.returned = 0
        """Characters of the text that `push` and `end` have returned."""
        self.stopped = False
        """The text reached a stop string."""

    def push(self, token: int) -> str:
        """Append a token and return the text that has become certain."""
        decoded = self.decoder.push(token)
        before = self._add(decoded.before, end=False)
        self.offsets.append(len(self.text))
        return before + self._add(decoded.own, end=False)

    @property
    def certain_tokens(self) -> int:
        """Tokens whose text has begun to be returned."""
        return bisect_left(self.offsets, self.returned)

    def end(self) -> str:
        """Return the rest: the beginning of a stop string, and incomplete characters as replacements."""
        return self._add("" if self.stopped else self.decoder.end(), end=True)

    def _add(self, piece: str, *, end: bool) -> str:
        if not self.stop:  # nothing can be taken back
            self.text += piece
            self.returned = len(self.text)
            return piece
        search_from = max(0, len(self.text) - max(map(len, self.stop), default=0) + 1)
        if not self.stopped:
            self.text += piece
            early = len(self.offsets) < self.min_tokens
            found = [(at, stop) for stop in self.stop if (at := self.text.find(stop, search_from)) >= 0]
            if found and not early:
                at, stop = min(found)
                self.text, self.stopped = self.text[: at + len(stop) * self.keep_stop], True
        certain = len(self.text) if end or self.stopped else len(self.text) - self._uncertain()
        new = self.text[self.returned : certain]
        self.returned = max(self.returned, certain)
        return new

    def _uncertain(self) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        return max(
            (
                length
                for stop in self.stop
                for length in range(1, min(len(stop), len(self.text) + 1))
                if self.text.endswith(stop[:length])
            ),
            default=0,
        )


class TokenTexts:
    """The texts of single tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.decoders = {skip: decoder_factory(tokenizer, skip_special_tokens=skip) for skip in (True, False)}
        """Functions that make a decoder for a new text, without and with the text of special tokens."""

    @cached_property
    def _letter(self) -> tuple[list[int], str]:
        """Tokens and text of a letter; a token decoded behind them keeps its leading space."""
        ids = self.tokenizer.encode("a", add_special_tokens=False).ids
        return ids, self.tokenizer.decode(ids, skip_special_tokens=False)

    def text(self, token: int) -> str:
        r"""Return the text of a token, leading space included.

        A token that has a part of a character is given by its bytes, as OpenAI's API does: `bytes:\xc3`. One without a
        text is given by its name in the vocabulary.
        """
        before, start = self._letter
        text: str = self.tokenizer.decode([*before, token], skip_special_tokens=False)[len(start) :]
        if text and REPLACEMENT not in text:
            return text
        content = self._bytes(token)
        if not content:
            return self.tokenizer.id_to_token(token) or ""
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + content.decode(errors="backslashreplace")

    def content(self, token: int) -> bytes:
        """Return the bytes of a token, which may be a part of a character."""
        content = self._bytes(token)
        return self.text(token).encode() if content is None else content

    def _bytes(self, token: int) -> bytes | None:
        """Return the bytes that a token is named after; None if its name is a text."""
        name = self.tokenizer.id_to_token(token) or ""
        if self._has_byte_names and (content := byte_level(name)) is not None:
            return content
        found = BYTE_NAME.fullmatch(name)
        return bytes.fromhex(found[1]) if found else None

    def both(self, token: int) -> tuple[str, bytes]:
        """Return the text and the bytes of a token."""
        return self.text(token), self.content(token)

    @cached_property
    def _has_byte_names(self) -> bool:
        """The names of tokens are bytes, as GPT-2 writes them."""
        return self.tokenizer.decoder is not None and '"ByteLevel"' in self.tokenizer.decoder.__getstate__().decode()

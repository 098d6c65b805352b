"""Token decoders: the text of tokens as they come, equal to the text of all of them decoded at once.

The library's own `DecodeStream` decodes a window and compares; where later tokens change the meaning of earlier ones,
as with the byte tokens of Llama 2, it fails. Here a text is certain only when no later token can change it:

- bytes (GPT-2's byte-level tokens) are decoded one by one; an incomplete character waits for its next byte;
- other tokens are decoded one by one, each behind a token that shows that it is not the first. Byte tokens (`<0x0A>`)
  wait for the first token that is none, since one wrong byte turns all of them into replacements;
- with any other decoder, nothing is certain before the end.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

from tokenizers import Tokenizer

SEPARATE = {"ByteFallback", "Metaspace", "Replace", "Strip", "WordPiece"}
"""Decoders that treat each token by itself, except the first one, and byte tokens together with their neighbours."""
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTES = {chr(byte): byte for byte in PRINTABLE} | {
    chr(256 + place): byte for place, byte in enumerate(sorted({*range(256)} - {*PRINTABLE}))
}
"""Bytes by the characters of byte-level tokens: printable bytes are themselves, the others follow from 256 on."""
KEPT_BYTES = 1 << 16
"""Tokens whose bytes are kept, for all texts together."""


Decode = Callable[[list[int]], str]


class Decoded(NamedTuple):
    """Text that has become certain with a token."""

    before: str = ""
    """Text of the tokens before it."""
    own: str = ""


class TokenDecoder(Protocol):
    """Turns the tokens of one text into text; the pieces together equal the text of all tokens decoded at once."""

    def push(self, token: int) -> Decoded:
        """Append a token and return the text that no later token can change."""
        ...

    def end(self) -> str:
        """Return the rest, when no more tokens follow."""
        ...


def decoder_factory(tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> Callable[[], TokenDecoder]:
    """Return a function that makes a decoder for a new text."""
    steps = [] if tokenizer.decoder is None else list(_steps(json.loads(tokenizer.decoder.__getstate__())))
    added = tokenizer.get_added_tokens_decoder()
    special = frozenset(token for token, one in added.items() if one.special and skip_special_tokens)
    decode = partial(tokenizer.decode, skip_special_tokens=skip_special_tokens)
    if [step["type"] for step in steps] == ["ByteLevel"]:
        return partial(ByteLevelDecoder, lru_cache(KEPT_BYTES)(partial(_bytes, tokenizer, special)))
    falls_back = any(step["type"] == "ByteFallback" for step in steps)
    anchor = _anchor(tokenizer, frozenset(added)) if _is_separate(steps) else None
    if anchor is None:
        return partial(WholeDecoder, decode)
    return partial(SeparateDecoder, tokenizer, special, anchor, falls_back=falls_back, decode=decode)


class ByteLevelDecoder:
    """Decodes bytes, whatever tokens they belong to."""

    def __init__(self, content: Callable[[int], bytes]) -> None:
        """Begin a text; `content` returns the bytes of a token."""
        self.content = content
        self.utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> Decoded:
        """Return the characters that a token completes."""
        return Decoded(own=self.utf8.decode(self.content(token)))

    def end(self) -> str:
        """Return a replacement for an incomplete character."""
        return self.utf8.decode(b"", final=True)


def byte_level(name: str) -> bytes | None:
    """Return the bytes that a byte-level token is named after; None if its name has other characters."""
    return bytes(BYTES[character] for character in name) if all(character in BYTES for character in name) else None


def _bytes(tokenizer: Tokenizer, special: frozenset[int], token: int) -> bytes:
    """Return the bytes of a byte-level token; none of one without a text."""
    name = tokenizer.id_to_token(token)
    if name is None or token in special:
        return b""
    content = byte_level(name)
    return name.encode() if content is None else content  # such as an added token


class SeparateDecoder:
    """Decodes tokens one by one, and byte tokens together with their neighbours."""

    def __init__(
        self, tokenizer: Tokenizer, special: frozenset[int], anchor: int, *, falls_back: bool, decode: Decode
    ) -> None:
        """Begin a text.

        Args:
            tokenizer: The tokenizer.
            special: Tokens that have no text.
            anchor: A token that has a text at any position.
            falls_back: The vocabulary has byte tokens.
            decode: Returns the text of tokens that are decoded at once.
        """
        self.tokenizer, self.special, self.falls_back, self.decode = tokenizer, special, falls_back, decode
        self.anchor, self.anchor_text = anchor, decode([anchor])
        self.byte_tokens: list[int] = []
        """The latest byte tokens, whose text is not certain."""
        self.first: list[int] | None = []
        """Tokens at the beginning, until they have a text: the decoder may remove a space from the first."""

    def push(self, token: int) -> Decoded:
        """Return the text of a token, and of the byte tokens before it that it ends."""
        name = self.tokenizer.id_to_token(token)
        if name is None or token in self.special:
            return Decoded()
        if self.falls_back and len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            self.byte_tokens.append(token)
            return Decoded()
        return Decoded(before=self.end(), own=self._decode([token]))

    def end(self) -> str:
        """Return the text of the byte tokens that have waited."""
        tokens, self.byte_tokens = self.byte_tokens, []
        return self._decode(tokens) if tokens else ""

    def _decode(self, tokens: list[int]) -> str:
        text = self.decode([self.anchor, *tokens])[len(self.anchor_text) :]
        if self.first is None:
            return text
        if text or not self.first:
            self.first += tokens
        text = self.decode(self.first)
        if text:
            self.first = None
        return text


class WholeDecoder:
    """Decodes everything at the end."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self.tokens: list[int] = []

    def push(self, token: int) -> Decoded:
        """Append a token; no text is certain yet."""
        self.tokens.append(token)
        return Decoded()

    def end(self) -> str:
        """Return the text."""
        return self.decode(self.tokens)


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the decoders that a decoder consists of, in order."""
    if decoder["type"] == "Sequence":
        for part in decoder["decoders"]:
            yield from _steps(part)
    else:
        yield decoder


def _is_separate(steps: list[dict[str, Any]]) -> bool:
    """Return True if tokens can be decoded one by one: once they are joined, only a beginning may be stripped."""
    fused = False
    for step in steps:
        fused = fused or step["type"] == "Fuse"
        strips_beginning = step["type"] == "Strip" and step["stop"] == 0
        if not (step["type"] == "Fuse" or strips_beginning if fused else step["type"] in SEPARATE):
            return False
    return True


def _anchor(tokenizer: Tokenizer, special: frozenset[int]) -> int | None:
    """Return a token that has a text at any position and is no byte token."""
    for token in range(tokenizer.get_vocab_size()):
        name = tokenizer.id_to_token(token)
        if name and token not in special and not name.startswith("<0x") and tokenizer.decode([token]).strip():
            return token
    return None

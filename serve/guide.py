"""Texts that must be JSON of a schema: llguidance tells which tokens may come next."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve.errors import InputError


class Guide:
    """The state of one text."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self.matcher, self.size = matcher, size

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next (vocabulary,)."""
        bits = allocate_token_bitmask(1, self.size)
        fill_next_token_bitmask(self.matcher, bits)
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: self.size].astype(bool)
        if not allowed.any():
            raise InputError(f"nothing may follow by the JSON schema: {self.matcher.get_error() or 'it is at its end'}")
        return allowed

    def take(self, token: int) -> None:
        """Go on after a token."""
        self.matcher.consume_token(token)


class Guides:
    """Makes guides for one tokenizer, which is converted once for every set of ends."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """Make guides over a vocabulary of `size` logits."""
        self.tokenizer, self.size = tokenizer, size
        self.converted: dict[tuple[int, ...], LLTokenizer] = {}

    def guide(self, schema: Mapping[str, Any], ends: Sequence[int]) -> Guide:
        """Return the guide of a text of a schema; an error if llguidance cannot follow the schema."""
        tokenizer = self._tokenizer(tuple(ends))
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        except (TypeError, ValueError) as error:
            raise InputError(f"json_schema is no JSON schema: {error}") from error
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise InputError(f"json_schema cannot be followed: {_first_line(matcher.get_error())}")
        return Guide(matcher, self.size)

    def _tokenizer(self, ends: tuple[int, ...]) -> LLTokenizer:
        if ends not in self.converted:
            try:
                made = LLTokenizer(self.tokenizer.to_str(), n_vocab=self.size, eos_token=list(ends))
            except ValueError as error:
                raise InputError(f"this base's tokenizer cannot follow a schema: {_first_line(str(error))}") from error
            self.converted[ends] = made
        return self.converted[ends]


def _first_line(text: str) -> str:
    return (text.strip() or "no reason given").splitlines()[0]

"""Texts that must be JSON of a schema: llguidance tells which tokens may come next."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve.errors import InputError

FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How JSON is laid out unless the schema's `x-guidance` says otherwise: a model may else write blanks to its limit."""
LIMITS: dict[str, Any] = {"step_lexer_fuel": 50_000, "step_max_items": 20_000, "max_grammar_size": 100_000}
"""Of a schema, and of what llguidance does between two tokens, which all rows wait for."""
LARGEST = 64_000
"""Characters of a schema."""
KEPT = 16
"""Schemas that are kept for the next request with them."""


class Guide:
    """The state of one text."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self.matcher, self.size = matcher, size

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next (vocabulary,)."""
        bits = allocate_token_bitmask(1, self.size)
        fill_next_token_bitmask(self.matcher, bits)
        if self.matcher.is_error():  # it then allows the end alone, as if the text were whole
            raise InputError(f"json_schema cannot be followed: {_first_line(self.matcher.get_error())}")
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[: self.size].astype(bool)
        if not allowed.any():
            raise InputError("nothing may follow by the JSON schema: it is at its end")
        return allowed

    def take(self, token: int) -> None:
        """Go on after a token."""
        if not self.matcher.consume_token(token):
            raise InputError(f"json_schema cannot be followed: {_first_line(self.matcher.get_error())}")


class Guides:
    """Makes guides for one tokenizer, which is converted once for every set of ends."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """Make guides over a vocabulary of `size` logits."""
        self.tokenizer, self.size = tokenizer, size
        self.converted: dict[tuple[int, ...], LLTokenizer] = {}
        self.kept: OrderedDict[tuple[str, tuple[int, ...]], LLMatcher] = OrderedDict()
        """At their beginning, by schema and ends; the one used last stays longest."""
        self.lock = threading.Lock()

    def guide(self, schema: Mapping[str, Any], ends: Sequence[int]) -> Guide:
        """Return the guide of a text of a schema; an error if llguidance cannot follow the schema."""
        try:
            key = json.dumps(schema), tuple(ends)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"json_schema is no JSON schema: {_first_line(str(error))}") from error
        if len(key[0]) > LARGEST:
            raise InputError(f"json_schema has {len(key[0])} characters: give at most {LARGEST}")
        with self.lock:
            if key not in self.kept:
                self.kept[key] = self._matcher(*key)
            self.kept.move_to_end(key)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
            return Guide(self.kept[key].deep_copy(), self.size)

    def _matcher(self, schema: str, ends: tuple[int, ...]) -> LLMatcher:
        """Return a matcher at the beginning of a text; an error if it cannot say what may come first."""
        tokenizer = self._tokenizer(ends)
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults=FORM)
        except ValueError as error:
            raise InputError(f"json_schema is no JSON schema: {_first_line(str(error))}") from error
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
        if matcher.is_error():
            raise InputError(f"json_schema cannot be followed: {_first_line(matcher.get_error())}")
        Guide(matcher.deep_copy(), self.size).allowed()
        return matcher

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

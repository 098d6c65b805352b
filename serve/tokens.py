"""Turn texts into rows of token ids, exactly as in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from serve.adapter import Adapter
from serve.errors import InputError

Text = str | tuple[str, str]
"""One text, or a pair."""
OVERLAP = 4
"""Windows over a long text share one part in this many."""
TRUNCATION = {"direction": "right", "strategy": "longest_first"}
"""How texts are truncated where the tokenizer's file does not say."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text (or pair) of a batch and the adapter that answers it."""

    input_ids: list[int]
    token_type_ids: list[int]
    adapter: Adapter

    def __len__(self) -> int:
        return len(self.input_ids)


class Texts:
    """A tokenizer file; one tokenizer a maximum length, since adapters may differ in it.

    Texts are truncated as the file says: at the end, unless it has a truncation of another direction.
    """

    def __init__(self, file: Path) -> None:
        definition = file.read_text("utf-8")

        @cache
        def tokenizer(max_length: int, overlap: int | None = None) -> Tokenizer:
            made = Tokenizer.from_str(definition)
            made.no_padding()
            kept = {name: (made.truncation or {}).get(name, value) for name, value in TRUNCATION.items()}
            truncation = kept if overlap is None else {**TRUNCATION, "stride": overlap}
            made.enable_truncation(max_length, **truncation)
            return made

        self._tokenizer = tokenizer

    def row(self, text: Text, adapter: Adapter, *, truncate: bool) -> Row:
        """Return the row of `text`, or an error if it is empty or, unless `truncate`, longer than the adapter takes.

        A pair that is too long loses tokens of its longer text first, as in training.
        """
        encoding = self._encode(text, self._tokenizer(adapter.card.max_length))
        if encoding.overflowing and not truncate:
            raise InputError(
                f"the text has more than {adapter.card.max_length} tokens: shorten it, or set truncate to true"
            )
        return Row(encoding.ids, encoding.type_ids, adapter)

    def windows(self, text: str, adapter: Adapter, *, overlap: int | None = None) -> list[Row]:
        """Return rows that cover a text of any length, each with `overlap` tokens of the one before.

        The overlap is a quarter of what an adapter takes unless another one is given.
        """
        longest = adapter.card.max_length
        overlap = longest // OVERLAP if overlap is None else overlap
        special = self._tokenizer(longest).num_special_tokens_to_add(False)
        if not 0 <= overlap < longest - special:
            raise InputError(
                f"windows cannot overlap by {overlap} tokens: adapter {adapter.card.name} takes {longest}, "
                f"{special} of which are special"
            )
        first = self._encode(text, self._tokenizer(longest, overlap))
        return [Row(found.ids, found.type_ids, adapter) for found in (first, *first.overflowing)]

    def _encode(self, text: Text, tokenizer: Tokenizer) -> Encoding:
        if not all(part.strip() for part in parts(text)):
            raise InputError("the text is empty")
        try:
            first, second = (text, None) if isinstance(text, str) else text
            return tokenizer.encode(first, second)
        except (TypeError, UnicodeEncodeError) as error:
            raise InputError("the text is not valid Unicode: it holds a lone surrogate") from error


def parts(text: Text) -> tuple[str, ...]:
    """Return the one or two texts of a row."""
    return (text,) if isinstance(text, str) else text


def pad(sequences: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    """Return the sequences as one array (rows, longest), padded on the right with `value`."""
    padded = np.full((len(sequences), max(map(len, sequences))), value, np.int64)
    for line, sequence in zip(padded, sequences, strict=True):
        line[: len(sequence)] = sequence
    return padded

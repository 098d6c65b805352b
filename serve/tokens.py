"""Turn texts into rows of token ids, exactly as in training."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve.errors import InputError

Text = str | tuple[str, str]
"""One text, or a pair."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text (or pair) of a batch and the adapter that answers it."""

    input_ids: list[int]
    token_type_ids: list[int]
    adapter: str

    def __len__(self) -> int:
        return len(self.input_ids)


class Texts:
    """A tokenizer file; one tokenizer a maximum length, since adapters may differ in it."""

    def __init__(self, file: Path) -> None:
        definition = file.read_text("utf-8")

        @cache
        def tokenizer(max_length: int) -> Tokenizer:
            made = Tokenizer.from_str(definition)
            made.no_padding()
            made.enable_truncation(max_length)
            return made

        self._tokenizer = tokenizer

    def row(self, text: Text, *, adapter: str, max_length: int, truncate: bool) -> Row:
        """Return the row of `text`, or an error if it is empty or, unless `truncate`, longer than `max_length`.

        A pair that is too long loses tokens of its longer text first, as in training.
        """
        if not all(part.strip() for part in parts(text)):
            raise InputError("the text is empty")
        try:
            first, second = (text, None) if isinstance(text, str) else text
            encoding = self._tokenizer(max_length).encode(first, second)
        except (TypeError, UnicodeEncodeError) as error:
            raise InputError("the text is not valid Unicode: it holds a lone surrogate") from error
        if encoding.overflowing and not truncate:
            raise InputError(f"the text has more than {max_length} tokens: shorten it, or set truncate to true")
        return Row(encoding.ids, encoding.type_ids, adapter)


def parts(text: Text) -> tuple[str, ...]:
    """Return the one or two texts of a row."""
    return (text,) if isinstance(text, str) else text


def pad(sequences: list[list[int]], value: int) -> NDArray[np.int64]:
    """Return the sequences as one array (rows, longest), padded on the right with `value`."""
    padded = np.full((len(sequences), max(map(len, sequences))), value, np.int64)
    for line, sequence in zip(padded, sequences, strict=True):
        line[: len(sequence)] = sequence
    return padded

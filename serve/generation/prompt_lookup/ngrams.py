"""N-grams of a text by where they occurred last, and what followed them there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

LONGEST = 4
"""Tokens of the longest n-grams."""
MOST_MATCHED = 16
"""Tokens up to which a match is measured, beyond the n-gram that it was found by."""
SPACES = "Ġ▁"
"""Characters that stand for a leading space in the names of tokens."""


@dataclass(frozen=True)
class Continuation:
    """Tokens that followed the end of a text where it occurred before."""

    tokens: Sequence[int]
    matched: int
    """Tokens of the end that occurred before: 1 to `MOST_MATCHED`."""


class NgramIndex:
    """The tokens of a row, and the latest place of each of their n-grams."""

    def __init__(self, keys: Sequence[int] | None = None) -> None:
        """Begin an empty text; tokens of one number in `keys` count as the same, and None tells all apart."""
        self.keys = keys
        self.tokens: list[int] = []
        self.folded: list[int] = []
        """Keys of the tokens."""
        self.behind: dict[tuple[int, ...], int] = {}
        """Index of the token behind the latest occurrence of each n-gram."""

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        for token in tokens:
            at = len(self.tokens)
            for size in range(1, min(LONGEST, at) + 1):
                self.behind[tuple(self.folded[at - size :])] = at
            self.tokens.append(token)
            self.folded.append(token if self.keys is None else self.keys[token])

    def continuation(self, count: int) -> Continuation | None:
        """Return `count` tokens that may come next, or None if not even the last token occurred before.

        They are those that followed the longest end of the text that occurred before. Where these reach the end, the
        text repeats itself, and so do they.
        """
        for size in range(min(LONGEST, len(self.folded)), 0, -1):
            at = self.behind.get(tuple(self.folded[-size:]))
            if at is not None:
                span = self.tokens[at : at + count]
                return Continuation([span[index % len(span)] for index in range(count)], self._matched(at, size))
        return None

    def _matched(self, at: int, size: int) -> int:
        """Return the number of tokens before a place that are those before the end, of which `size` are known to be."""
        while size < min(MOST_MATCHED, at) and self.folded[at - size - 1] == self.folded[-size - 1]:
            size += 1
        return size


def token_keys(tokenizer: Tokenizer, size: int) -> list[int]:
    """Return a number for each of `size` tokens, equal for tokens that differ in a leading space or in case alone.

    A word is copied from `name[Blue Spice]` as ` Blue Spice`.
    """
    keys, known = list(range(size)), dict[str, int]()
    for name, token in tokenizer.get_vocab().items():
        word = name.lstrip(SPACES).casefold()
        if word and token < size:
            keys[token] = known.setdefault(word, token)
    return keys

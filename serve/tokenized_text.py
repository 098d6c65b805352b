"""A text as the tokens of a model, the same for every protocol."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of one text; all sequences are (tokens,)."""

    ids: Sequence[int]
    names: Sequence[str]
    """Tokens as the vocabulary writes them."""
    special: Sequence[bool]
    """True for tokens that the tokenizer adds around the text."""
    offsets: Sequence[tuple[int, int]]
    """First character of the text that a token stands for, and the one behind its last."""

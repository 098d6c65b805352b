"""The bounds of a generation engine."""

from dataclasses import dataclass

import numpy as np

MOST_NEW_TOKENS = 64
"""Of a request that does not say how many."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The bounds of what is in flight."""

    rows: int = 16
    """That are written at a time."""
    tokens: int = 16_384
    """Of the cache: rows in flight, times what the longest of them may come to, prompt and answer."""
    queued: int = 256
    """That wait for a row."""
    chunk: int = 256
    """Tokens of prompts that are read between two tokens of the rows that write."""
    prefix_tokens: int = 1024
    """Of prompts that are kept for others that begin in the same way."""
    timeout: float = np.inf
    """Seconds that a text may wait for a row."""

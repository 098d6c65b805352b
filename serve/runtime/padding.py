"""Pad sequences of different lengths to one array, and build its attention mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pad(sequences: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    """Return the sequences as one array, padded on the right with `value`: (rows, longest)."""
    padded = np.full((len(sequences), max(map(len, sequences))), value, np.int64)
    for line, sequence in zip(padded, sequences, strict=True):
        line[: len(sequence)] = sequence
    return padded


def mask_of(lengths: Sequence[int] | NDArray[np.int64], total: int | None = None) -> NDArray[np.int64]:
    """Return an attention mask, 1 for tokens and 0 for the padding on their right: (rows, longest or `total`)."""
    return (np.arange(max(lengths) if total is None else total) < np.array(lengths)[:, None]).astype(np.int64)

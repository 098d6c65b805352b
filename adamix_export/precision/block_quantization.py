"""Matrices in blocks of 4 or 8 bits, as `MatMulNBits` and `GatherBlockQuantized` read them.

Each block of a row has a scale of its own; values are unsigned, zero in their middle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Tried on every block of 4 bits: a smaller scale cuts the extreme off and holds the others better."""
ROWS = 2048
"""Of a matrix, quantised at a time."""


@dataclass(frozen=True)
class Blocks:
    """A matrix (out, in) in blocks."""

    values: NDArray[np.uint8]
    """(out, blocks, bytes of a block); of two 4-bit values the first is in the low half of a byte."""
    scales: Array
    """(out, blocks)"""


def quantise_blocks(weight: Array, *, bits: int, size: int) -> Blocks:
    """Return a matrix (out, in) in blocks of `size` values; rows are filled up with zeros to whole blocks."""
    parts = [_quantise(weight[start : start + ROWS], bits, size) for start in range(0, len(weight), ROWS)]
    return Blocks(np.concatenate([part.values for part in parts]), np.concatenate([part.scales for part in parts]))


def _quantise(weight: Array, bits: int, size: int) -> Blocks:
    rows, columns = weight.shape
    count = -(-columns // size)
    filled = np.pad(weight, ((0, 0), (0, count * size - columns))).reshape(rows, count, size)
    scales = block_scales(filled, bits)
    return pack((_rounded(filled, scales[..., None], bits) + (1 << bits - 1)).astype(np.uint8), scales, bits)


def pack(values: NDArray[np.uint8], scales: Array, bits: int) -> Blocks:
    """Return unsigned values (out, blocks, size) as the operator reads them."""
    if bits == 4:
        values = (values[..., 0::2] | values[..., 1::2] << 4).astype(np.uint8)
    return Blocks(values, scales)


def block_scales(blocks: Array, bits: int) -> Array:
    """Return the scales (…) of blocks (…, size): of what is tried, those that lose least."""
    extremes = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    # The extreme becomes the lowest value: there is one more below zero than above.
    whole = np.where(extremes == 0, np.float32(1), extremes / np.float32(-(1 << bits - 1)))
    if bits == 8:
        return whole[..., 0]
    tried = np.stack([whole[..., 0] * np.float32(shrink) for shrink in SHRINKS])
    errors = np.stack(
        [np.square(_rounded(blocks, one[..., None], bits) * one[..., None] - blocks).sum(-1) for one in tried]
    )
    best: Array = np.take_along_axis(tried, errors.argmin(0)[None], 0)[0]
    return best


def _rounded(blocks: Array, scales: Array, bits: int) -> Array:
    middle = 1 << bits - 1
    return np.clip(np.rint(blocks / scales), -middle, middle - 1)

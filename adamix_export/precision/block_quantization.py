"""Quantization of matrices in blocks of 4 or 8 bits, in the layout of `MatMulNBits` and `GatherBlockQuantized`.

Each block of a row has its own scale. Values are unsigned; zero is in the middle of their range.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Factors of the scale tried on 4-bit blocks: a smaller scale clips the extreme and rounds the others more finely."""
ROWS = 2048
"""Rows of a matrix quantized at a time, which bounds the memory."""


@dataclass(frozen=True)
class QuantizedBlocks:
    """A quantized matrix (out, in)."""

    values: NDArray[np.uint8]
    """(out, blocks, bytes of a block); the first of two 4-bit values is in the low half of a byte."""
    scales: Array
    """(out, blocks)"""


def quantize_blocks(weight: Array, *, bits: int, size: int) -> QuantizedBlocks:
    """Quantize a matrix (out, in) in blocks of `size` values; rows are padded with zeros to whole blocks."""
    parts = [_quantize(weight[start : start + ROWS], bits, size) for start in range(0, len(weight), ROWS)]
    return QuantizedBlocks(
        np.concatenate([part.values for part in parts]), np.concatenate([part.scales for part in parts])
    )


def _quantize(weight: Array, bits: int, size: int) -> QuantizedBlocks:
    rows, columns = weight.shape
    count = -(-columns // size)
    filled = np.pad(weight, ((0, 0), (0, count * size - columns))).reshape(rows, count, size)
    scales = choose_scales(filled, bits)
    return pack((_rounded(filled, scales[..., None], bits) + (1 << bits - 1)).astype(np.uint8), scales, bits)


def pack(values: NDArray[np.uint8], scales: Array, bits: int) -> QuantizedBlocks:
    """Pack unsigned values (out, blocks, size) into bytes."""
    if bits == 4:
        values = (values[..., 0::2] | values[..., 1::2] << 4).astype(np.uint8)
    return QuantizedBlocks(values, scales)


def choose_scales(blocks: Array, bits: int) -> Array:
    """Return the scales (…) of blocks (…, size) with the smallest squared error among those tried."""
    extremes = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    # The extreme value becomes the lowest level: there is one more level below zero than above.
    full = np.where(extremes == 0, np.float32(1), extremes / np.float32(-(1 << bits - 1)))
    if bits == 8:
        return full[..., 0]
    tried = np.stack([full[..., 0] * np.float32(shrink) for shrink in SHRINKS])
    errors = np.stack(
        [np.square(_rounded(blocks, one[..., None], bits) * one[..., None] - blocks).sum(-1) for one in tried]
    )
    best: Array = np.take_along_axis(tried, errors.argmin(0)[None], 0)[0]
    return best


def _rounded(blocks: Array, scales: Array, bits: int) -> Array:
    middle = 1 << bits - 1
    return np.clip(np.rint(blocks / scales), -middle, middle - 1)

"""Calibrated 4-bit rounding: GPTQ (Frantar et al., ICLR 2023), in blocks.

Columns are rounded one after another. The rounding error of each is compensated in the columns to its right, according
to the Gram matrix of the activations that the matrix is multiplied with, which tells how columns are correlated.
"""

import numpy as np

from adamix_export.passes.matrices import Array
from adamix_export.precision.block_quantization import QuantizedBlocks, choose_scales, pack

DAMPING = 0.01
"""Share of the mean diagonal that is added to the Gram matrix's diagonal; it regularizes few calibration tokens."""


def gptq_blocks(weight: Array, gram: Array, *, bits: int, size: int) -> QuantizedBlocks:
    """Quantize a matrix (out, in) in blocks of `size` values; `gram` is (in, in) and `in` a multiple of `size`."""
    rows, columns = weight.shape
    middle = 1 << bits - 1
    upper = _inverse_cholesky(gram)
    remaining = weight.astype(np.float32, copy=True)
    values = np.empty((rows, columns), np.float32)
    scales = np.empty((rows, columns // size), np.float32)
    for start in range(0, columns, size):
        end = start + size
        block, error = remaining[:, start:end], np.empty((rows, size), np.float32)
        scale = scales[:, start // size] = choose_scales(block, bits)
        for column in range(size):
            at = start + column
            value = values[:, at] = np.clip(np.rint(block[:, column] / scale), -middle, middle - 1)
            error[:, column] = (block[:, column] - value * scale) / upper[at, at]
            block[:, column + 1 :] -= np.outer(error[:, column], upper[at, at + 1 : end])
        remaining[:, end:] -= error @ upper[start:end, end:]
    return pack((values + middle).astype(np.uint8).reshape(rows, -1, size), scales, bits)


def _inverse_cholesky(gram: Array) -> Array:
    """Return the upper Cholesky factor of the inverse of a damped Gram matrix."""
    damped = gram.astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * np.trace(damped) / len(damped) + np.finfo(np.float32).tiny
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)

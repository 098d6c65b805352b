"""4-bit rounding that knows what a matrix is multiplied with: GPTQ (Frantar et al., ICLR 2023), in blocks.

Columns are rounded one after another, and what each is off by is made up for in the columns to its right, as far as the
states that the matrix meets let it: `gram`, the sum of their outer products, says which columns move together.
"""

import numpy as np

from adamix_export.passes.matrices import Array
from adamix_export.precision.block_quantization import Blocks, block_scales, pack

DAMPING = 0.01
"""Of the mean of the Gram matrix's diagonal, added to it: few states do not say all."""


def round_blocks(weight: Array, gram: Array, *, bits: int, size: int) -> Blocks:
    """Return a matrix (out, in) in blocks of `size` values; `gram` is (in, in). `in` is a multiple of `size`."""
    rows, columns = weight.shape
    middle = 1 << bits - 1
    upper = _upper(gram)
    left = weight.astype(np.float32, copy=True)
    values = np.empty((rows, columns), np.float32)
    scales = np.empty((rows, columns // size), np.float32)
    for start in range(0, columns, size):
        end = start + size
        block, off = left[:, start:end], np.empty((rows, size), np.float32)
        scale = scales[:, start // size] = block_scales(block, bits)
        for column in range(size):
            at = start + column
            value = values[:, at] = np.clip(np.rint(block[:, column] / scale), -middle, middle - 1)
            off[:, column] = (block[:, column] - value * scale) / upper[at, at]
            block[:, column + 1 :] -= np.outer(off[:, column], upper[at, at + 1 : end])
        left[:, end:] -= off @ upper[start:end, end:]
    return pack((values + middle).astype(np.uint8).reshape(rows, -1, size), scales, bits)


def _upper(gram: Array) -> Array:
    """Return the upper Cholesky factor of the inverse of a Gram matrix."""
    damped = gram.astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * np.trace(damped) / len(damped) + np.finfo(np.float32).tiny
    inverse = np.linalg.inv(damped)
    return np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)

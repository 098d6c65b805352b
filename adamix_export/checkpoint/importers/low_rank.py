"""A matrix of low rank as a pair of narrow ones."""

import torch
from torch import Tensor

from adamix_export.errors import BankError

LOST = 1e-5
"""Largest entry, as a share of the matrix's largest, that a pair may lose."""


def low_rank(matrix: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return `down` (r, in) and `up` (out, r) whose product is `matrix` (out, in); a `BankError` if r is too small."""
    down, up = closest(matrix, r)
    if (matrix - up.double() @ down.double()).abs().max() > LOST * matrix.abs().max():
        raise BankError(f"a change of the base has a rank above {r}, which a bank does not hold")
    return down, up


def closest(matrix: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return `down` (r, in) and `up` (out, r) whose product is closest to `matrix` (out, in) in the sum of squares."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return right[:r].float(), (left[:, :r] * values[:r]).float()

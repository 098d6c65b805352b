"""A matrix of low rank as a pair of narrow ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from adamix_export.errors import BankError

LOST = 1e-5
"""Largest entry, as a share of the matrix's largest, that a pair may lose."""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Rank of an approximation: as many singular values as hold a share of the sum of squares, and at most `most`."""

    most: int | None = None
    energy: float = 1.0

    def of(self, values: Tensor) -> int:
        """Return how many of the singular values (n,), largest first, are kept: at least one."""
        held = values.square().cumsum(0) / values.square().sum()
        count = min(int((held < self.energy).sum()) + 1, len(values))
        return count if self.most is None else min(count, self.most)


def low_rank(matrix: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return `down` (r, in) and `up` (out, r) whose product is `matrix` (out, in); a `BankError` if r is too small."""
    down, up = closest(matrix, Rank(most=r))
    if (matrix - up.double() @ down.double()).abs().max() > LOST * matrix.abs().max():
        raise BankError(f"a change of the base has a rank above {r}, which a bank does not hold")
    return down, up


def closest(matrix: Tensor, rank: Rank) -> tuple[Tensor, Tensor]:
    """Return `down` (r, in) and `up` (out, r) whose product is closest to `matrix` (out, in) in the sum of squares."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    r = rank.of(values)
    return right[:r].float(), (left[:, :r] * values[:r]).float()

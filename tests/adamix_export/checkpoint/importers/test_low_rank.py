import pytest
import torch

from adamix_export.checkpoint.importers.low_rank import Rank, closest, low_rank
from adamix_export.errors import BankError


def test_a_product_is_found_again() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(7, 3, dtype=torch.float64) @ torch.randn(3, 5, dtype=torch.float64)
    down, up = low_rank(matrix, 3)
    assert (down.shape, up.shape) == ((3, 5), (7, 3))
    torch.testing.assert_close((up @ down).double(), matrix, rtol=0, atol=1e-6)


def test_a_matrix_of_higher_rank_is_refused() -> None:
    with pytest.raises(BankError, match="has a rank above 2"):
        low_rank(torch.eye(3), 2)


@pytest.mark.parametrize(
    ("rank", "kept"),
    [
        (Rank(most=2), 2),
        (Rank(most=9), 4),
        (Rank(energy=0.83), 2),
        (Rank(energy=0.82), 1),
        (Rank(energy=1.0), 4),
        (Rank(most=3, energy=0.999), 3),
        (Rank(most=3, energy=0.5), 1),
    ],
    ids=str,
)
def test_a_rank_is_a_count_or_a_share_of_the_sum_of_squares(rank: Rank, kept: int) -> None:
    """Squares of 8, 3, 2 and 1 hold 64, 9, 4 and 1 of 78 parts: shares 0.8205, 0.9359, 0.9872 and 1."""
    values = torch.tensor([8.0, 3.0, 2.0, 1.0])
    down, up = closest(torch.diag(values), rank)
    assert (down.shape[0], up.shape[1]) == (kept, kept)
    assert torch.allclose(up @ down, torch.diag(values * (torch.arange(4) < kept)))


def test_nothing_has_a_rank_too() -> None:
    down, up = closest(torch.zeros(3, 4), Rank(energy=0.9))
    assert not (up @ down).any()

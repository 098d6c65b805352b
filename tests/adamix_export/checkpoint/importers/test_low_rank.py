import pytest
import torch

from adamix_export.checkpoint.importers.low_rank import low_rank
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

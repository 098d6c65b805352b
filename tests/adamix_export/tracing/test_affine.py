import torch

from adamix_export.tracing.affine import BankAffine
from adamix_export.tracing.stacks import Stacks


def filled(rows: list[int]) -> tuple[BankAffine, Stacks]:
    """A change of 3 outputs with the base, and adapters 1 and 2 that scale and shift."""
    stacks = Stacks()
    affine = BankAffine(stacks, "layer", 3)
    stacks.adapter_ids = torch.tensor(rows)
    stacks.values = {
        "layer.affine.out.weight": torch.tensor([[0.0, 0, 0], [1, 2, 3], [-1, 0, 0.5]]),
        "layer.affine.out.bias": torch.tensor([[0.0, 0, 0], [10, 20, 30], [0, 0, -1]]),
    }
    return affine, stacks


def test_each_row_is_changed_by_its_own_adapter() -> None:
    affine, stacks = filled([2, 0, 1])
    assert stacks.shapes == {"layer.affine.out.weight": ("slots", 3), "layer.affine.out.bias": ("slots", 3)}
    y = torch.tensor([[2.0, 3, 4]]).repeat(3, 1)
    expected = torch.tensor([[0.0, 3, 5], [2, 3, 4], [14, 29, 46]])
    torch.testing.assert_close(affine(torch.empty(0), y), expected, rtol=0, atol=0)


def test_all_tokens_of_a_row_share_the_change() -> None:
    affine, _ = filled([1, 2])
    y = torch.randn(2, 5, 3)
    found = affine(torch.empty(0), y)
    torch.testing.assert_close(found[0], y[0] * torch.tensor([2.0, 3, 4]) + torch.tensor([10.0, 20, 30]))
    torch.testing.assert_close(found[1], y[1] * torch.tensor([0, 1, 1.5]) + torch.tensor([0.0, 0, -1]))

import torch
from torch.nn import functional

from adamix_train.training.consistency import consistency_loss, two_views


def test_the_loss_is_the_symmetric_divergence_by_hand() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    p, q = a.softmax(-1), b.softmax(-1)
    by_hand = 0.5 * ((q * (q / p).log()).sum(-1) + (p * (p / q).log()).sum(-1)).mean()
    torch.testing.assert_close(consistency_loss(a, b), by_hand)


def test_its_gradient_is_half_the_difference_of_the_probabilities() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    consistency_loss(a, b).backward()
    expected = 0.5 * (functional.softmax(a, -1) - functional.softmax(b, -1)) / 5
    torch.testing.assert_close(a.grad, expected.detach())
    torch.testing.assert_close(b.grad, -expected.detach())


def test_equal_views_cost_nothing() -> None:
    a = torch.randn(5, 3)
    assert consistency_loss(a, a).item() == 0


def test_two_views_repeat_the_batch() -> None:
    views = two_views({"input_ids": torch.tensor([[1, 2], [3, 4]]), "return_dict": True})
    assert views["input_ids"].tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]
    assert views["return_dict"] is True

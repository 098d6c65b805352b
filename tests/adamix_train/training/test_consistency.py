from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.consistency import consistency_loss, resolve_consistency_weight, two_views
from adamix_train.training.objectives import OBJECTIVES


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


@pytest.mark.parametrize(("fields", "weight"), [({}, 1.0), ({"num_modules": 1}, 0.0), ({"method": "head"}, 0.0)])
def test_a_mixture_has_the_consistency_loss_by_default_and_nothing_else_has(
    fields: dict[str, object], weight: float
) -> None:
    assert resolve_consistency_weight(Recipe(base="b", out="o", **fields), OBJECTIVES["classification"]) == weight


def test_one_adapter_can_have_the_consistency_loss_from_dropout_alone(recipe: Recipe) -> None:
    alone, consistent = (
        train(replace(recipe, num_modules=1, consistency_weight=weight, epochs=1, out=f"{recipe.out}{weight}"))
        for weight in (0.0, 5.0)
    )
    assert alone["trained_parameters"] == consistent["trained_parameters"]
    assert alone["history"][0]["loss"] != consistent["history"][0]["loss"]

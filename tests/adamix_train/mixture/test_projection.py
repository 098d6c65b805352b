import pytest
import torch
from torch.nn import functional

from adamix_train.mixture.projection import MixtureLinear, mixture_projection


@pytest.fixture
def mixture() -> MixtureLinear:
    torch.manual_seed(0)
    made = MixtureLinear(3, 4, 5, bias=True)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def test_training_uses_the_routed_module(mixture: MixtureLinear) -> None:
    x = torch.randn(2, 7, 4)
    mixture.route = (2,)
    assert mixture.bias is not None
    torch.testing.assert_close(mixture(x), functional.linear(x, mixture.weight[2], mixture.bias[2]))


def test_views_are_equal_shares_of_the_batch(mixture: MixtureLinear) -> None:
    x = torch.randn(4, 7, 4)
    mixture.route = (2, 0)
    assert mixture.bias is not None
    torch.testing.assert_close(mixture(x)[:2], functional.linear(x[:2], mixture.weight[2], mixture.bias[2]))
    torch.testing.assert_close(mixture(x)[2:], functional.linear(x[2:], mixture.weight[0], mixture.bias[0]))


def test_evaluation_uses_the_mean_of_weights_and_biases(mixture: MixtureLinear) -> None:
    x = torch.randn(2, 4)
    assert mixture.bias is not None
    by_hand = (mixture.weight[0] + mixture.weight[1] + mixture.weight[2]) / 3
    bias = (mixture.bias[0] + mixture.bias[1] + mixture.bias[2]) / 3
    torch.testing.assert_close(mixture.eval()(x), x @ by_hand.T + bias)
    torch.testing.assert_close(mixture.collapse()(x), x @ by_hand.T + bias)


def test_evaluation_follows_the_weights_as_they_change(mixture: MixtureLinear) -> None:
    x = torch.randn(2, 4)
    before = mixture.eval()(x)
    with torch.no_grad():
        mixture.weight[1] += 1
    assert not torch.allclose(before, mixture(x))


def test_modules_that_were_not_chosen_have_zero_gradients_and_still_move(mixture: MixtureLinear) -> None:
    mixture.route = (1,)
    before = mixture.weight.detach().clone()
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=0.1, weight_decay=0.1)
    mixture(torch.randn(2, 4)).sum().backward()
    assert mixture.weight.grad is not None
    assert (mixture.weight.grad[[0, 2]] == 0).all()
    optimizer.step()
    assert (mixture.weight != before).all(), "weight decay moves them all, as in the original"


def test_training_without_a_route_is_an_error(mixture: MixtureLinear) -> None:
    with pytest.raises(RuntimeError, match="no route"):
        mixture(torch.randn(2, 4))


def test_a_batch_that_does_not_hold_its_views_is_an_error(mixture: MixtureLinear) -> None:
    mixture.route = (0, 1)
    with pytest.raises(ValueError, match="3 rows cannot hold 2 shares"):
        mixture(torch.randn(3, 4))


@pytest.mark.parametrize(("share", "down", "up"), [("up", 4, 1), ("down", 1, 4), ("none", 4, 4)])
def test_sharing_gives_a_projection_one_module(share: str, down: int, up: int) -> None:
    projection = mixture_projection(4, share=share)
    assert projection("down", 2, 2, bias=True).num_modules == down
    assert projection("up", 2, 2, bias=True).num_modules == up


def test_scores_weigh_the_mean() -> None:
    mixture = mixture_projection(3, share="none")("down", 4, 5, bias=True)
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    mixture.scores = torch.log(torch.tensor([0.5, 0.25, 0.25]))
    weight, bias = mixture.mean()
    torch.testing.assert_close(weight, 0.5 * mixture.weight[0] + 0.25 * mixture.weight[1] + 0.25 * mixture.weight[2])
    torch.testing.assert_close(bias, 0.5 * mixture.bias[0] + 0.25 * mixture.bias[1] + 0.25 * mixture.bias[2])
    mixture.scores = torch.tensor([-torch.inf, 0.0, -torch.inf])
    torch.testing.assert_close(mixture.collapse().weight, mixture.weight[1])


def test_one_module_can_be_the_mean_until_all_are_again(mixture: MixtureLinear) -> None:
    mixture.keep_only(0)
    assert torch.equal(mixture.mean()[0], mixture.weight[0])
    mixture.keep_only(None)
    torch.testing.assert_close(mixture.mean()[0], mixture.weight.mean(0))

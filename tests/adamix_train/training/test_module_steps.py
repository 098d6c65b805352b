"""What happens to modules between steps, against computations by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.module_steps import Pull, Split, multiply_rates, steps_alone
from tests.fixtures.training import Kill, assert_equal, weights


def mixture(count: int = 4) -> MixtureLinear:
    torch.manual_seed(0)
    made = MixtureLinear(count, 3, 2, bias=True)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def test_a_pull_moves_each_module_towards_the_mean() -> None:
    one = MixtureLinear(2, 1, 1, bias=False)
    one.weight.data = torch.tensor([[[1.0]], [[5.0]]])
    Pull(0.25).on_step_end(None, None, None, model=one)
    assert one.weight.flatten().tolist() == [1.5, 4.5]


def test_a_pull_leaves_the_mean_and_a_shared_projection() -> None:
    model = nn.ModuleList([mixture(), mixture(1)])
    mean, shared = model[0].weight.mean(0), model[1].weight.clone()
    Pull(0.1).on_step_end(None, None, None, model=model)
    torch.testing.assert_close(model[0].weight.mean(0), mean)
    assert torch.equal(model[1].weight, shared)


def test_the_first_module_is_evaluated_alone_until_it_is_copied() -> None:
    one = mixture()
    one.keep_only(0)
    assert torch.equal(one.mean()[0], one.weight[0])
    one.keep_only(None)
    torch.testing.assert_close(one.mean()[0], one.weight.mean(0))


def test_a_split_copies_weights_and_moments_once() -> None:
    one = mixture()
    optimizer = torch.optim.AdamW(one.parameters())
    one.weight.grad, one.bias.grad = torch.randn_like(one.weight), torch.randn_like(one.bias)
    optimizer.step()
    split, state = Split(0.5), SimpleNamespace(global_step=0, max_steps=10)
    split.on_train_begin(None, state, None, model=one)
    assert torch.equal(one.mean()[0], one.weight[0])
    before = one.weight.detach().clone()
    for state.global_step in (0, 4, 6):
        split.on_step_begin(None, state, None, model=one, optimizer=optimizer)
    assert torch.equal(one.weight, before)
    state.global_step = 5
    split.on_step_begin(None, state, None, model=one, optimizer=optimizer)
    for parameter in (one.weight, one.bias):
        moments = optimizer.state[parameter]
        for stack in (parameter, moments["exp_avg"], moments["exp_avg_sq"]):
            assert all(torch.equal(module, stack[0]) for module in stack)
    assert torch.equal(one.weight[3], before[0])
    assert one.scores.tolist() == [0.0] * 4


def test_steps_alone_are_a_share_of_all() -> None:
    assert [steps_alone(share, 10) for share in (0.0, 0.25, 0.5, 0.99)] == [0, 2, 5, 10]


def test_unshared_projections_have_a_rate_of_their_own() -> None:
    model = nn.ModuleList([mixture(), mixture(1), nn.Linear(2, 2)])
    decayed = [parameter for name, parameter in model.named_parameters() if not name.endswith("bias")]
    others = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3
    )
    multiply_rates(optimizer, model, 2.0)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == 6
    assert found[id(model[0].weight)] == (2e-3, 0.1)
    assert found[id(model[0].bias)] == (2e-3, 0.0)
    assert found[id(model[1].weight)] == found[id(model[2].weight)] == (1e-3, 0.1)


class Watch(TrainerCallback):
    """Notes how far the modules of the first mixture are apart after each step."""

    def __init__(self) -> None:
        self.apart: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        stack = next(weight for name, weight in model.named_parameters() if "down" in name and weight.requires_grad)
        self.apart.append(float((stack - stack[0]).detach().abs().max()))


@pytest.mark.slow
def test_modules_part_only_after_the_split(recipe: Recipe) -> None:
    """Ten steps, five of them alone: an idle module decays, and is replaced by a copy in the sixth step."""
    watch = Watch()
    train(replace(recipe, split_after=0.5, learning_rate=1e-2), callbacks=[watch])
    assert len(watch.apart) == 10
    assert 0 < watch.apart[5] < watch.apart[4]
    assert watch.apart[9] > watch.apart[5]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_with_every_switch_resumes_as_if_it_had_not_stopped(recipe: Recipe, tmp_path: Any, stop: int) -> None:
    switches = replace(
        recipe,
        routing="shares",
        labels_on="both",
        consistency_from=0.4,
        split_after=0.3,
        pull=0.01,
        module_rate=2.0,
        average="last:0.5",
        eval_steps=2,
    )
    train(switches)
    again = replace(switches, out=str(tmp_path / "again"))
    with pytest.raises(KeyboardInterrupt):
        train(again, callbacks=[Kill(stop)])
    train(again, resume=True)
    assert_equal(weights(recipe.out), weights(again.out))

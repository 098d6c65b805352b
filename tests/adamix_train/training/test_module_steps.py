"""What happens to modules between steps, against computations by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.average import Average
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.module_steps import Pull, Split, multiply_rates, steps_alone
from adamix_train.training.step_average import StepAverage
from adamix_train.training.unselected import stacks_of
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


class Run:
    """Ten steps, in each of which AdamW moves the first module of a mixture up, and later all of them."""

    def __init__(self, split_after: float, *others: TrainerCallback) -> None:
        self.mixture = mixture()
        self.optimizer = torch.optim.AdamW(self.mixture.parameters(), lr=0.1, weight_decay=0.5)
        self.state = SimpleNamespace(global_step=0, max_steps=10)
        self.callbacks = [Split(split_after), *others]
        self.callbacks[0].on_train_begin(None, self.state, None, model=self.mixture, optimizer=self.optimizer)

    def step(self) -> None:
        alone = self.state.global_step < steps_alone(self.callbacks[0].split_after, 10)
        for parameter in self.mixture.parameters():
            parameter.grad = -torch.ones_like(parameter)
            parameter.grad[1:] *= 0.0 if alone else torch.arange(1.0, 4.0).reshape(-1, *[1] * (parameter.dim() - 1))
        self.optimizer.step()
        self.state.global_step += 1
        for callback in self.callbacks:
            callback.on_step_end(None, self.state, None, model=self.mixture, optimizer=self.optimizer)

    def stacks(self) -> list[torch.Tensor]:
        """Return weights and moments, (modules, …)."""
        return [stack for parameter in self.mixture.parameters() for stack in stacks_of(self.optimizer, parameter)]


def are_equal(stacks: list[torch.Tensor]) -> bool:
    return all(torch.equal(module, stack[0]) for stack in stacks for module in stack)


def test_all_modules_are_the_first_until_the_split() -> None:
    run = Run(0.5)
    assert are_equal(run.stacks())
    for _ in range(5):
        before = run.mixture.weight[0].clone()
        run.step()
        assert len(run.stacks()) == 6
        assert are_equal(run.stacks())
        assert (run.mixture.weight[0] > before * 0.95).all()
    torch.testing.assert_close(run.mixture.mean()[0], run.mixture.weight[0])
    run.step()
    assert not are_equal(run.stacks())
    parted = run.mixture.weight.clone()
    for callback in run.callbacks:  # resumed after the split
        callback.on_train_begin(None, run.state, None, model=run.mixture, optimizer=run.optimizer)
    assert torch.equal(run.mixture.weight, parted)


def test_a_checkpoint_of_one_module_alone_is_resumed_as_all_of_them() -> None:
    """As earlier versions stored it before the split, with modules that momentum and decay had moved."""
    run = Run(0.5)
    run.step()
    run.mixture.keep_only(0)
    run.mixture.weight.data[1:] += 1.0
    run.callbacks[0].on_train_begin(None, run.state, None, model=run.mixture, optimizer=run.optimizer)
    assert are_equal(run.stacks())
    assert run.mixture.scores.tolist() == [0.0] * 4


def test_a_pull_does_nothing_before_the_split() -> None:
    torch.manual_seed(0)
    plain, pulled = Run(0.5), Run(0.5, Pull(0.1))
    for _ in range(5):
        plain.step()
        pulled.step()
        torch.testing.assert_close(pulled.mixture.weight, plain.mixture.weight)


def test_a_mean_over_steps_has_no_module_that_was_not_trained() -> None:
    """Before the split, every module of the mean is the first module's mean."""
    average = StepAverage(Average.parse("last:1"))
    run, steps = Run(0.5, average), list[torch.Tensor]()
    for _ in range(5):
        run.step()
        steps.append(run.mixture.weight[0].detach().clone())
    for module in average.mean["weight"]:
        torch.testing.assert_close(module, torch.stack(steps).mean(0))


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
    """Ten steps, five of them alone, in which all modules are the first."""
    watch = Watch()
    train(replace(recipe, split_after=0.5, learning_rate=1e-2), callbacks=[watch])
    assert len(watch.apart) == 10
    assert watch.apart[:5] == [0.0] * 5
    assert 0 < watch.apart[5] < watch.apart[9]


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

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from adamix_train.errors import TrainingError
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training import compilation
from adamix_train.training.compilation import compiled
from tests.fixtures.adapted_bert import adamix, inputs, shaken
from tests.fixtures.training import on_gpu

pytestmark = pytest.mark.slow
GRAPHS_ONLY = "aot_eager"
"""Backend that traces forward and backward passes, and runs them without generating code."""
STEPS = 6


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    """Count compilations from zero."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    return model.train()


def step(model: Any, route: Route) -> tuple[Tensor, dict[str, Tensor]]:
    """Run one step; return logits and gradients."""
    model.zero_grad()
    logits = model(**inputs(), route=route).logits
    logits.square().sum().backward()
    return logits.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("kind", ["houlsby", "lora"])
def test_a_new_route_runs_the_same_code_and_computes_what_the_uncompiled_model_does(kind: str, views: int) -> None:
    model = without_dropout(shaken(adamix(kind, share="none", num_modules=4)))
    routes = [Route(step=number, views=views) for number in range(STEPS)]
    expected = [step(model, route) for route in routes]
    taken = set()
    with compiled(model, backend=GRAPHS_ONLY):
        for route, (logits, gradients) in zip(routes, expected, strict=True):
            found, found_gradients = step(model, route)
            torch.testing.assert_close(found, logits, atol=1e-5, rtol=1e-4)
            assert found_gradients.keys() == gradients.keys()
            for name, gradient in gradients.items():
                torch.testing.assert_close(found_gradients[name], gradient, atol=1e-5, rtol=1e-4)
            taken.add(tuple(one.route for one in model.base_model.mixtures("default").values()))
    assert len(taken) == STEPS, "every step had a route of its own"
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_after_the_block_the_model_is_as_before() -> None:
    model = without_dropout(shaken(adamix(num_modules=4)))
    with compiled(model, backend=GRAPHS_ONLY):
        step(model, Route(step=0))
    graphs = counters["stats"]["unique_graphs"]
    step(model, Route(step=1))
    assert counters["stats"]["unique_graphs"] == graphs
    assert all(one.indices is None for one in model.modules() if isinstance(one, MixtureLinear))


def test_a_run_that_is_compiled_learns_and_compiles_a_few_times(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lengths of batches, the last batch of an epoch, and evaluation have code of their own; routes have none."""
    monkeypatch.setattr(compilation, "BACKEND", GRAPHS_ONLY)
    results = train(replace(recipe, compile=True, r=8, epochs=12, eval_steps=20))
    assert results["test_accuracy"] > 0.9
    assert results["steps"] == 60
    assert counters["stats"]["unique_graphs"] <= 8


def test_a_backend_that_fails_is_one_clear_error(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(compilation, "BACKEND", broken)
    with pytest.raises(TrainingError, match=r"torch.compile failed: .*no compiler.*; train without --compile"):
        train(replace(recipe, compile=True))


@on_gpu
def test_a_run_that_is_compiled_learns_on_a_gpu(recipe: Recipe) -> None:
    results = train(replace(recipe, compile=True, precision="bf16", r=8, epochs=12, eval_steps=20))
    assert results["test_accuracy"] > 0.9

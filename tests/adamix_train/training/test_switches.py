"""The method's switches, each against what it is by hand."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from adamix_train.base_model.load import load_classifier
from adamix_train.errors import RecipeError
from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.pfeiffer import Pfeiffer
from adamix_train.mixture.projection import MixtureLinear, linear_projection, mixture_projection
from adamix_train.mixture.routing import Route, set_route
from adamix_train.mixture.shape import AdapterShape
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.consistency import resolve_consistency_weight
from adamix_train.training.module_weights import Quality, choose_soup, greedy_soup
from adamix_train.training.objectives import OBJECTIVES
from adamix_train.training.unselected import freeze_unselected

SHAPE = AdapterShape(in_features=6, out_features=8, r=4)


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        kind="lora",
        r=4,
        epochs=3,
        batch_size=8,
        learning_rate=2e-2,
        max_length=16,
        report_to="none",
    )


def test_pfeiffer_is_a_bottleneck_with_relu() -> None:
    adapter = Pfeiffer(SHAPE, linear_projection)
    adapter.reset_parameters()
    y = torch.randn(3, 8)
    by_hand = y + functional.relu(y @ adapter.down.weight.T) @ adapter.up.weight.T
    torch.testing.assert_close(adapter(torch.empty(3, 6), y), by_hand)


def test_near_identity_starts_nearer_to_the_identity_than_the_original() -> None:
    y = torch.randn(100, 8)
    change = {}
    for near in (False, True):
        torch.manual_seed(0)
        adapter = Houlsby(replace(SHAPE, near_identity=near), linear_projection)
        adapter.reset_parameters()
        change[near] = (adapter(y, y) - y).abs().mean()
    assert 0 < change[True] < change[False] / 50


def test_a_route_for_each_example_is_that_of_its_row_alone() -> None:
    torch.manual_seed(0)
    mixtures = {"site": MixtureLinear(4, 6, 5, bias=True)}
    mixture = mixtures["site"]
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(8, 3, 6)
    set_route(mixtures, Route(step=0, views=2, rows=range(4, 8)), seed=0)
    y = mixture(x)
    assert len(set(mixture.route)) > 1
    for row, index in enumerate(mixture.route):
        weight, bias = mixture.module(index)
        torch.testing.assert_close(y[row], functional.linear(x[row], weight, bias))
    route = mixture.route
    set_route(mixtures, Route(step=0, views=1, rows=range(8)), seed=0)
    assert mixture.route[4:] == route[:4], "rows are numbered over all ranks"


@pytest.mark.parametrize("consistency_weight", [0.0, 1.0])
def test_a_fixed_route_trains_one_module_and_is_measured_on_it(recipe: Recipe, consistency_weight: float) -> None:
    """Without weight decay, what no route chose has nothing that moves it."""
    train(replace(recipe, routing="fixed", consistency_weight=consistency_weight, weight_decay=0.0))
    tensors = load_file(Path(recipe.out) / "adapter_model.safetensors")
    downs = [name for name in tensors if name.endswith("down.weight")]
    assert downs
    for name in downs:
        weight, scores = tensors[name], tensors[name.replace(".weight", ".scores")]
        others = [sum(torch.equal(module, other) for other in weight) for module in weight]
        assert sorted(others) == [1, 3, 3, 3], "LoRA's modules start alike, and one of them was trained"
        assert scores.softmax(0).tolist() == [float(count == 1) for count in others], "the mean is that module"


def test_a_fixed_route_leaves_nothing_to_weigh() -> None:
    with pytest.raises(RecipeError, match="a fixed route trains one module of each mixture"):
        Recipe(base="b", out="o", routing="fixed", collapse="greedy-soup")


@pytest.mark.parametrize(("fields", "weight"), [({}, 1.0), ({"num_modules": 1}, 0.0), ({"method": "head"}, 0.0)])
def test_a_mixture_has_the_consistency_loss_by_default_and_nothing_else_has(
    fields: dict[str, object], weight: float
) -> None:
    assert resolve_consistency_weight(Recipe(base="b", out="o", **fields), OBJECTIVES["classification"]) == weight


@pytest.mark.parametrize("fields", [{"num_modules": 1}, {"method": "full"}])
def test_one_module_or_none_needs_no_weights(recipe: Recipe, fields: dict[str, object]) -> None:
    assert train(replace(recipe, collapse="learned", epochs=1, **fields))["steps"] == 5


@pytest.mark.parametrize("still", [True, False])
def test_unselected_modules_stay_or_move(still: bool) -> None:
    mixture = MixtureLinear(3, 4, 5, bias=True)
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=0.1, weight_decay=0.1)
    if still:
        freeze_unselected(optimizer, mixture)
    for index in (0, 1):
        before = mixture.weight.detach().clone()
        mixture.route = (index,)
        mixture(torch.randn(2, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = (mixture.weight != before).flatten(1).any(1)
        assert moved.tolist() == ([number == index for number in range(3)] if still else [True] * 3)


def test_a_run_with_unselected_modules_held_still_differs(recipe: Recipe) -> None:
    for still in (True, False):
        train(replace(recipe, update_unselected=not still, out=f"{recipe.out}{still}"))
    one, other = (load_file(Path(f"{recipe.out}{still}") / "adapter_model.safetensors") for still in (True, False))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("routing", ["batch", "example"])
@pytest.mark.parametrize("collapse", ["learned", "greedy-soup"])
def test_module_weights_are_kept_and_used_by_what_loads_the_checkpoint(
    recipe: Recipe, routing: str, collapse: str
) -> None:
    results = train(replace(recipe, collapse=collapse, routing=routing))
    tensors = load_file(Path(recipe.out) / "adapter_model.safetensors")
    scores = [weight for name, weight in tensors.items() if name.endswith("down.scores")]
    assert scores
    assert all(torch.equal(weight, scores[0]) for weight in scores) == (collapse == "greedy-soup")
    model = peft.PeftModel.from_pretrained(load_classifier(Path(recipe.base), results["labels"]), recipe.out)
    for name, mixture in model.base_model.mixtures("default").items():
        stored = tensors[
            f"base_model.model.{name}.scores".replace(".down.", ".adamix_modules.down.").replace(
                ".up.", ".adamix_modules.up."
            )
        ]
        assert torch.equal(mixture.scores, stored)


class Judged:
    """A trainer whose metric counts how much of the mean is from modules 1 and 2."""

    def __init__(self) -> None:
        self.model = torch.nn.ModuleDict({"down": MixtureLinear(4, 2, 2, bias=False)})
        self.args = SimpleNamespace(greater_is_better=True)

    def evaluate(self) -> dict[str, float]:
        shares = self.model["down"].scores.softmax(0)
        accuracy = round(float(min(shares[1], 0.5) + min(shares[2], 0.5)), 3)
        return {"eval_accuracy": accuracy, "eval_loss": 1 - accuracy}


def test_a_greedy_soup_takes_what_helps_and_leaves_what_harms() -> None:
    trainer = Judged()
    greedy_soup(trainer, "accuracy")
    assert trainer.model["down"].scores.softmax(0).tolist() == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("losses", "soup"), [((3.0, 1.0, 2.0), [1, 2]), ((1.0, 3.0, 2.0), [0, 2]), ((1, 1, 1), [0, 1])]
)
def test_a_greedy_soup_begins_with_the_lowest_loss_of_those_that_tie(
    losses: tuple[float, ...], soup: list[int]
) -> None:
    """All modules are as good, and so is the mean of two; that of three is worse."""

    def quality(chosen: list[int]) -> Quality:
        return Quality(metric=1.0 if len(chosen) < 3 else 0.5, loss=sum(losses[index] for index in chosen))

    assert choose_soup(3, quality) == soup


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


def test_a_recipe_keeps_its_switches(recipe: Recipe) -> None:
    train(replace(recipe, sites="attention,feed_forward", kind="pfeiffer", share="none", epochs=1))
    config = json.loads((Path(recipe.out) / "adapter_config.json").read_text())
    assert config["sites"] == ["attention", "feed_forward"]
    assert config["kind"] == "pfeiffer"

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch

from adamix_train.base_model.load import load_classifier
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.recipe import COLLAPSES, Recipe
from adamix_train.run.train import train
from adamix_train.training.module_weights import MODULE_WEIGHTS, Quality, choose_soup, greedy_soup
from tests.fixtures.training import weights


def test_the_table_and_the_recipe_name_the_same_values() -> None:
    assert tuple(MODULE_WEIGHTS) == COLLAPSES


@pytest.mark.parametrize("fields", [{"num_modules": 1}, {"method": "full"}])
def test_one_module_or_none_needs_no_weights(recipe: Recipe, fields: dict[str, object]) -> None:
    assert train(replace(recipe, collapse="learned", epochs=1, **fields))["steps"] == 5


@pytest.mark.parametrize("routing", ["batch", "example"])
@pytest.mark.parametrize("collapse", ["learned", "greedy-soup"])
def test_module_weights_are_kept_and_used_by_what_loads_the_checkpoint(
    recipe: Recipe, routing: str, collapse: str
) -> None:
    results = train(replace(recipe, collapse=collapse, routing=routing, epochs=1))
    tensors = weights(recipe.out)
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
        module_weights = self.model["down"].scores.softmax(0)
        accuracy = round(float(min(module_weights[1], 0.5) + min(module_weights[2], 0.5)), 3)
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

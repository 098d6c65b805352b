from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from adamix_train.data.splits import task_of
from adamix_train.errors import RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.inputs import read_inputs
from adamix_train.run.prepare import prepare
from adamix_train.training.class_weights import balanced_weights, with_class_weights
from adamix_train.training.objectives import OBJECTIVES
from tests.fixtures.example_files import write
from tests.fixtures.training import small_recipe

TARGETS = ["a"] * 8 + ["b"] * 3 + ["c"]


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=TARGETS)
    assert balanced_weights(TARGETS, ["a", "b", "c"]) == pytest.approx(expected.tolist())
    assert balanced_weights(TARGETS, ["a", "b", "c", "never"]) == pytest.approx([*expected.tolist(), 1.0])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_of_the_weighted_losses_of_the_rows(label_smoothing: float) -> None:
    """So that the batches of a step can be summed: torch divides by the sum of the batch's own weights."""
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2]), [0.5, 1.5, 4.0]
    loss = with_class_weights(OBJECTIVES["classification"], weights).loss(
        logits, labels, label_smoothing=label_smoothing
    )
    own = functional.cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=label_smoothing)
    assert float(loss) == pytest.approx(float(own) * sum(weights[label] for label in labels.tolist()) / 6)
    if not label_smoothing:
        rows = functional.cross_entropy(logits, labels, reduction="none")
        assert float(loss) == pytest.approx(float((rows * torch.tensor(weights)[labels]).mean()))


def test_a_run_weighs_by_its_training_data(tiny_base: Path, tmp_path: Path) -> None:
    rows = [f"good {index},a" for index in range(16)] + [f"bad {index},b" for index in range(4)]
    data = write(tmp_path, "rare.csv", "\n".join(["text,label", *rows]) + "\n")
    recipe = small_recipe(tiny_base, data, tmp_path / "run", class_weights="balanced")
    run = prepare(read_inputs(recipe, resume=False))
    logits, labels = torch.zeros(1, 2), torch.tensor([1])
    plain = prepare(read_inputs(replace(recipe, class_weights=None), resume=False)).objective
    factor = run.objective.loss(logits, labels, label_smoothing=0.0) / plain.loss(logits, labels, label_smoothing=0.0)
    assert float(factor) == pytest.approx(15 / (2 * 3))


def test_what_has_no_classes_is_not_weighed() -> None:
    with pytest.raises(RecipeError, match="task regression has no classes to weigh"):
        task_of(Recipe(base="b", out="o", task="regression", class_weights="balanced"))

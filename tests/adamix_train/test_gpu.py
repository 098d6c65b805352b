"""Arithmetic that only a GPU has."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adamix_train.recipe import Recipe
from adamix_train.run import train
from tests.adamix_train.test_run import assert_equal, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        test_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        kind="lora",
        r=8,
        epochs=12,
        batch_size=8,
        learning_rate=2e-2,
        max_length=16,
        report_to="none",
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_mixture_learns_in_every_precision(recipe: Recipe, precision: str) -> None:
    assert train(replace(recipe, precision=precision))["test_accuracy"] > 0.9


def test_a_route_for_each_example_learns(recipe: Recipe) -> None:
    assert train(replace(recipe, routing="example", precision="bf16"))["test_accuracy"] > 0.9


def test_an_fp16_run_resumes_with_its_loss_scale(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, precision="fp16", epochs=2)
    train(recipe)
    before = weights(recipe.out)
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), before)

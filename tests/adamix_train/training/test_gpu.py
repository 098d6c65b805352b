"""Arithmetic that only a GPU has."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adamix_train.errors import Interrupted
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.adamix_train.run.test_habits import Signal
from tests.adamix_train.run.test_train import weights

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
    recipe = replace(recipe, precision="fp16", epochs=3)
    train(replace(recipe, out=str(tmp_path / "whole")))
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=6, number=signal.SIGINT)])
    train(recipe, resume=True)
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(recipe.out)[name], weight, atol=1e-3, rtol=0)

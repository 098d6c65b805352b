from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adamix_train.errors import TrainingError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.arguments import check_precision
from tests.adamix_train.training.test_device import FakeCuda
from tests.fixtures.training import on_gpu, weights


@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_mixture_learns_in_every_precision(recipe: Recipe, precision: str) -> None:
    assert train(replace(recipe, r=8, epochs=12, precision=precision))["test_accuracy"] > 0.9


def test_bf16_and_checkpointing_and_accumulation_train_together(recipe: Recipe, tmp_path: Path) -> None:
    settings = {"precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation": 2}
    results = train(replace(recipe, length_bucketing=True, r=8, epochs=12, eval_steps=6, **settings))
    assert results["steps"] == 12 * 3
    assert results["test_accuracy"] > 0.9
    train(replace(recipe, out=str(tmp_path / "fp32"), length_bucketing=True, r=8, epochs=1))
    assert not torch.equal(
        *(weights(folder)["base_model.model.classifier.weight"] for folder in (recipe.out, tmp_path / "fp32"))
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_fp16_without_a_gpu_is_refused(recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match="fp16 needs a GPU: choose bf16 or fp32"):
        train(replace(recipe, precision="fp16"))


def test_a_gpu_that_only_emulates_bf16_is_refused() -> None:
    check_precision("bf16", FakeCuda())
    check_precision("bf16", FakeCuda(available=False, has_bf16=False))
    with pytest.raises(TrainingError, match="Tesla T4 has no bf16: choose fp16 or fp32"):
        check_precision("bf16", FakeCuda(name="Tesla T4", has_bf16=False))

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adamix_train.artifacts.checkpoint import read_card, whole_checkpoints
from adamix_train.errors import CheckpointError, Interrupted, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.training import Kill, Signal, assert_equal, on_gpu, weights


def test_a_mixture_learns_what_a_word_means(recipe: Recipe) -> None:
    """With LoRA: a random base gives the bottleneck adapter nothing to work on; tests/integration has a real one."""
    results = train(replace(recipe, r=8, epochs=12, eval_steps=20))
    assert results["test_accuracy"] > 0.9
    assert results["labels"] == ["negative", "positive"]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, gradient_accumulation=2, batch_size=4, lora_dropout=0.1, epochs=3)
    train(replace(recipe, out=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, callbacks=[Kill(step=12)])
    with pytest.raises(CheckpointError, match="cut short leaves checkpoint-N folders: resume it with --resume"):
        read_card(Path(recipe.out))
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(recipe: Recipe, tmp_path: Path) -> None:
    train(replace(recipe, out=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        train(replace(recipe, report_to="tensorboard"), callbacks=[Kill(step=1)])
    with pytest.raises(RecipeError, match="is not empty: give another --out, or --resume"):
        train(recipe)
    with pytest.raises(RecipeError, match=r"r is 2, but the run in .* was started with 4"):
        train(replace(recipe, r=2), resume=True)
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_is_not_resumed_with_another_number_of_processes_in_silence(recipe: Recipe, processes: int) -> None:
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=6, number=signal.SIGINT)])
    first = whole_checkpoints(Path(recipe.out))[-1] / "rng_state_0.safetensors"
    if processes:
        shutil.copy(first, first.with_name("rng_state_1.safetensors"))
    else:
        first.unlink()
    with pytest.raises(CheckpointError, match=f"was written by {processes} processes and this run has 1: resume it"):
        train(recipe, resume=True)


@on_gpu
def test_an_fp16_run_resumes_with_its_loss_scale(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, precision="fp16", epochs=3)
    train(replace(recipe, out=str(tmp_path / "whole")))
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=6, number=signal.SIGINT)])
    train(recipe, resume=True)
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(recipe.out)[name], weight, atol=1e-3, rtol=0)

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adamix_train.artifacts.checkpoint import WEIGHTS, read_card, write_card
from adamix_train.errors import CheckpointError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.example_files import write
from tests.fixtures.training import assert_equal, weights


@pytest.mark.parametrize("method", ["adamix", "head"])
def test_a_run_begins_with_the_weights_of_a_finished_one(recipe: Recipe, tmp_path: Path, method: str) -> None:
    """At a learning rate of 0 it ends with them, whatever its own seed would have drawn."""
    first = replace(recipe, method=method, epochs=1)
    train(first)
    again = replace(first, init_from=first.out, out=str(tmp_path / "again"), seed=5, learning_rate=0.0, epochs=2)
    results = train(again)
    if method == "adamix":
        assert_equal(weights(again.out), weights(first.out))
    assert results["steps"] == 10
    fresh = train(replace(again, init_from=None, out=str(tmp_path / "fresh")))
    assert results["test_loss"] != fresh["test_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, "was trained with r 4, and this run has 8"),
        ({"kind": "houlsby"}, "was trained with kind 'lora'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    shared_run: Recipe, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    out = tmp_path / "again"
    with pytest.raises(CheckpointError, match=message):
        train(replace(shared_run, init_from=shared_run.out, out=str(out), **changes))
    assert not out.exists()


def test_weights_for_other_labels_are_refused(shared_run: Recipe, tiny_data: Path, tmp_path: Path) -> None:
    other = write(tmp_path, "other.csv", tiny_data.read_text().replace("negative", "sad"))
    fields = {"init_from": shared_run.out, "out": str(tmp_path / "again"), "train_file": str(other), "test_file": None}
    with pytest.raises(CheckpointError, match="was trained with other labels: its weights do not fit this run"):
        train(replace(shared_run, **fields))


def test_what_is_no_finished_run_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint of adamix-train"):
        train(replace(recipe, init_from=str(tmp_path)))


def test_one_trained_module_is_no_mixture_to_begin_with(recipe: Recipe, tmp_path: Path) -> None:
    fixed = replace(recipe, routing="fixed", epochs=1)
    train(fixed)
    with pytest.raises(CheckpointError, match="was trained on a fixed route, one module of each mixture"):
        train(replace(fixed, routing="shares", init_from=fixed.out, out=str(tmp_path / "again")))


def test_a_run_weighs_the_modules_itself(recipe: Recipe, tmp_path: Path) -> None:
    """A checkpoint whose mean is one module alone does not decide what the next run evaluates and exports."""
    first = replace(recipe, epochs=1)
    train(first)
    file, card = Path(first.out) / WEIGHTS, read_card(Path(first.out))
    tensors = load_file(file)
    scores = [name for name in tensors if name.endswith("scores")]
    assert scores
    for name in scores:
        if len(tensors[name]) > 1:
            tensors[name][1:] = -torch.inf
    save_file(tensors, file)
    write_card(file.parent, card)
    again = replace(first, init_from=first.out, out=str(tmp_path / "again"))
    train(again)
    found = load_file(Path(again.out) / WEIGHTS)
    assert all(not found[name].any() for name in scores)

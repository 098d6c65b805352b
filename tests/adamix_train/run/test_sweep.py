import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.errors import Interrupted, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.sweep import sweep
from tests.fixtures.training import Signal


def test_a_sweep_trains_every_seed_once_and_reports_the_spread(recipe: Recipe) -> None:
    recipe = replace(recipe, epochs=1)
    first = sweep(recipe, [0, 1])
    accuracies = [train_results(recipe, seed)["test_accuracy"] for seed in (0, 1)]
    assert first["metrics"]["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert first["advice"] == {str(seed): train_results(recipe, seed)["advice"] for seed in (0, 1)}
    assert all("5 steps are few" in advice[-1] for advice in first["advice"].values())
    stamp = (Path(recipe.out) / "seed-0" / "results.json").stat().st_mtime_ns
    assert sweep(recipe, [0, 1, 2])["seeds"] == [0, 1, 2]
    assert (Path(recipe.out) / "seed-0" / "results.json").stat().st_mtime_ns == stamp
    with pytest.raises(RecipeError, match=r"r is 2, but the run in .*seed-0 was started with 4"):
        sweep(replace(recipe, r=2), [0])
    sweep(replace(recipe, report_to="tensorboard"), [0])


def test_seeds_that_are_added_are_trained_as_those_before_them(recipe: Recipe) -> None:
    """The first was trained by a version that drew a route for each batch without being told to."""
    recipe = replace(recipe, epochs=1)
    sweep(replace(recipe, routing="batch"), [0])
    sweep(recipe, [0, 1])
    views = [read_card(Path(recipe.out) / f"seed-{seed}").recipe for seed in (0, 1)]
    assert [(one["routing"], one["consistency_from"], one["labels_on"]) for one in views] == [
        ("batch", 0.0, "first")
    ] * 2


def test_an_interrupted_sweep_goes_on_when_it_is_repeated(recipe: Recipe) -> None:
    with pytest.raises(Interrupted, match="at seed 0; repeat the command to continue the sweep"):
        sweep(recipe, [0], callbacks=[Signal(step=6, number=signal.SIGINT)])
    assert sweep(recipe, [0])["seeds"] == [0]


def train_results(recipe: Recipe, seed: int) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((Path(recipe.out) / f"seed-{seed}" / "results.json").read_text())
    return results

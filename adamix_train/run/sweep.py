"""Train one recipe with several seeds, and report mean and deviation of the metrics."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adamix_train.artifacts.atomic_write import write_json
from adamix_train.artifacts.checkpoint import read_card
from adamix_train.errors import Interrupted
from adamix_train.recipe.recipe import Recipe
from adamix_train.recipe.stored import BEFORE
from adamix_train.run.processes import is_first_process
from adamix_train.run.run_folder import STARTED, check_recipe
from adamix_train.run.train import train

if TYPE_CHECKING:
    from transformers import TrainerCallback

NOT_MEASURED = ("steps", "best_step", "trained_parameters", "all_parameters")
SUFFIX = "_examples"


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of a metric over seeds."""

    mean: float
    deviation: float
    """Sample standard deviation; 0 for one seed."""


def sweep(recipe: Recipe, seeds: Sequence[int], *, callbacks: "Sequence[TrainerCallback]" = ()) -> dict[str, Any]:
    """Train into `out/seed-N` for each seed, and return the metrics' spread, which is stored as sweep.json.

    Finished seeds are not trained again and interrupted ones are resumed, so that a sweep can be repeated until it is
    complete, or extended by seeds. `callbacks` are passed to every run's Trainer.

    Raises:
        RecipeError: a seed's folder holds a run of another recipe.
        Interrupted: a signal came; repeat the sweep to continue.
    """
    out = Path(recipe.out)
    recipe = _as_begun(recipe, out)
    results = {seed: _run(replace(recipe, seed=seed, out=str(out / f"seed-{seed}")), callbacks) for seed in seeds}
    spread = {
        name: vars(_spread([float(result[name]) for result in results.values()]))
        for name, value in results[seeds[0]].items()
        if isinstance(value, float | int) and name not in NOT_MEASURED and not name.endswith(SUFFIX)
    }
    summary = {
        "seeds": list(seeds),
        "metrics": spread,
        "runs": [result["checkpoint"] for result in results.values()],
        "advice": {str(seed): result["advice"] for seed, result in results.items() if result.get("advice")},
    }
    if is_first_process():
        write_json(out / "sweep.json", summary)
    return summary


def _as_begun(recipe: Recipe, out: Path) -> Recipe:
    """Return the recipe with the routes and views of a finished seed, which an earlier version may have chosen."""
    finished = sorted(out.glob("seed-*/results.json"))
    if not finished:
        return recipe
    said = read_card(finished[0].parent).recipe
    chosen: dict[str, Any] = {name: said[name] for name in BEFORE if getattr(recipe, name) is None}
    return replace(recipe, **chosen)


def _run(recipe: Recipe, callbacks: "Sequence[TrainerCallback]") -> dict[str, Any]:
    out = Path(recipe.out)
    done = out / "results.json"
    if done.is_file():
        check_recipe(recipe, read_card(out).recipe, out)
        results: dict[str, Any] = json.loads(done.read_text("utf-8"))
        return results
    try:
        return train(recipe, resume=(out / STARTED).is_file(), callbacks=callbacks)
    except Interrupted as error:
        message = f"interrupted at seed {recipe.seed}; repeat the command to continue the sweep"
        raise Interrupted(message, error.signal) from error


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0)

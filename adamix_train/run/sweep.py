"""Train one recipe with several seeds, and tell the mean and the deviation of what came out."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.errors import Interrupted
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.processes import is_first_process
from adamix_train.run.run_folder import STARTED, check_recipe
from adamix_train.run.train import train

NOT_MEASURED = ("steps", "best_step", "trained_parameters", "all_parameters")
SUFFIX = "_examples"


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    mean: float
    deviation: float
    """Of the sample; 0 for one seed."""


def sweep(recipe: Recipe, seeds: Sequence[int]) -> dict[str, Any]:
    """Train into `out/seed-N` for every seed, and return (and store as sweep.json) the metrics' spread.

    A seed that is done is not trained again, one that was interrupted goes on, so that a sweep can be repeated until it
    is whole, or given more seeds. A folder that holds a run of another recipe is an error.
    """
    out = Path(recipe.out)
    results = {seed: _run(replace(recipe, seed=seed, out=str(out / f"seed-{seed}"))) for seed in seeds}
    spread = {
        name: vars(_spread([float(result[name]) for result in results.values()]))
        for name, value in results[seeds[0]].items()
        if isinstance(value, float | int) and name not in NOT_MEASURED and not name.endswith(SUFFIX)
    }
    summary = {"seeds": list(seeds), "metrics": spread, "runs": [result["checkpoint"] for result in results.values()]}
    if is_first_process():
        partial = out / "sweep.json.partial"
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        partial.replace(out / "sweep.json")
    return summary


def _run(recipe: Recipe) -> dict[str, Any]:
    out = Path(recipe.out)
    done = out / "results.json"
    if done.is_file():
        check_recipe(recipe, read_card(out).recipe, out)
        results: dict[str, Any] = json.loads(done.read_text())
        return results
    try:
        return train(recipe, resume=(out / STARTED).is_file())
    except Interrupted as error:
        raise Interrupted(f"interrupted at seed {recipe.seed}; repeat the command to go on with the sweep") from error


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0)

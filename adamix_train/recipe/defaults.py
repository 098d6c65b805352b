"""Settings that a recipe leaves open: routes and views, batch size, epochs, learning rate, warm-up and evaluations.

They are chosen from the task, the data and the base.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from adamix_train.recipe.recipe import Recipe

MANY_ROWS = 5_000
"""From so many rows on, a batch has 32 of them; below, 16: small data has few steps as it is."""
STEPS = 600
"""Optimizer steps for which a run goes through its rows again: fewer left small data sets unlearned."""
EPOCHS = (3, 40)
"""Fewest and most passes over the rows."""
EVALUATIONS = (10, 20)
"""Fewest and most evaluations of a run, among which the best checkpoint is chosen; between them, one a pass."""
WARMUP = 0.06
"""Share of the steps in which the learning rate rises, that of the paper's scripts."""
WIDTH = 384
"""Hidden size of the base at which RATES hold; a wider one takes less, by (384 / width) ** 1.5."""
RATES = {
    "houlsby mixtures": 4e-3,
    "pfeiffer mixtures": 4e-3,
    "lora mixtures": 4e-3,
    "single houlsby adapters": 2e-3,
    "single pfeiffer adapters": 2e-3,
    "single lora adapters": 3e-3,
    "peft-lora": 3e-3,
    "head": 3e-2,
    "full": 1.5e-4,
}
"""Peak learning rates at 16 rows a step. They grow with the square root of the rows in a step, as Adam's do. A module
of a mixture sees a share of the rows, and takes more.

Those of Houlsby, LoRA and `full` are from `benchmarks.defaults` and `benchmarks.quality`; Pfeiffer's adapters take
those of Houlsby's, and a head alone is between what two tasks found (0.1 and 0.01 for 32 rows).
"""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Facts that the defaults depend on, beside the recipe."""

    rows: int
    """Training examples."""
    width: int
    """Hidden size of the base."""
    task: str = "classification"
    """Kind of the task: classification, regression or generation."""
    processes: int = 1
    """Data-parallel processes."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A recipe without open settings."""

    recipe: Recipe
    because: dict[str, str]
    """Name of each setting that was chosen, in the order of choice → the reason, a phrase; without those that the
    method does not use."""


def complete(recipe: Recipe, situation: Situation) -> Chosen:
    """Choose what `recipe` leaves open; what it says is kept, and the other choices fit themselves to it."""
    because = {}
    for name, choose in CHOICES.items():
        if getattr(recipe, name) is None:
            value, reason = choose(recipe, situation)
            changed: dict[str, Any] = {name: value}
            recipe = replace(recipe, **changed)
            if reason:
                because[name] = reason
    return Chosen(recipe=recipe, because=because)


def rows_of_a_step(recipe: Recipe, situation: Situation) -> int:
    """Return the examples of an optimizer step, over all its batches and processes."""
    assert recipe.batch_size is not None
    return recipe.batch_size * recipe.gradient_accumulation * situation.processes


def steps_of_a_pass(recipe: Recipe, situation: Situation) -> int:
    """Return the optimizer steps in which all rows are seen once; the last may have fewer of them."""
    return math.ceil(situation.rows / rows_of_a_step(recipe, situation))


def _routing(recipe: Recipe, situation: Situation) -> tuple[str, str]:
    if not recipe.is_mixture:
        return "batch", ""
    if situation.task != "classification":
        return "batch", f"for {situation.task} nothing better than the published way has been measured"
    return "shares", "a mixture learns labels better so than from routes that are drawn for each batch"


def _consistency_from(recipe: Recipe, situation: Situation) -> tuple[float, str]:
    late = _shares_with_two_views(recipe, situation)
    return (0.5, "with equal shares the second view pays in the second half") if late else (0.0, "")


def _labels_on(recipe: Recipe, situation: Situation) -> tuple[str, str]:
    both = _shares_with_two_views(recipe, situation)
    return ("both", "with equal shares the second view teaches as much as the first") if both else ("first", "")


def _shares_with_two_views(recipe: Recipe, situation: Situation) -> bool:
    has_two_views = recipe.consistency_weight != 0 and situation.task == "classification"
    return recipe.is_mixture and recipe.routing == "shares" and has_two_views


def _batch_size(recipe: Recipe, situation: Situation) -> tuple[int, str]:
    few = situation.rows < MANY_ROWS
    return 16 if few else 32, f"{situation.rows:,} rows are {'below' if few else 'at least'} {MANY_ROWS:,}"


def _epochs(recipe: Recipe, situation: Situation) -> tuple[float, str]:
    a_pass = steps_of_a_pass(recipe, situation)
    fewest, most = EPOCHS
    epochs = min(max(math.ceil(STEPS / a_pass), fewest), most)
    aim = {fewest: f"at least {fewest} passes", most: f"at most {most} passes"}.get(epochs, f"about {STEPS} steps")
    return float(epochs), f"a pass has {a_pass} steps, and a run has {aim}"


def _learning_rate(recipe: Recipe, situation: Situation) -> tuple[float, str]:
    what = recipe.method
    if recipe.method == "adamix":
        what = f"{recipe.kind} mixtures" if recipe.is_mixture else f"single {recipe.kind} adapters"
    rows = rows_of_a_step(recipe, situation)
    rate = RATES[what] * (WIDTH / max(WIDTH, situation.width)) ** 1.5 * math.sqrt(rows / 16)
    return float(f"{rate:.2g}"), f"{what} on a base of width {situation.width} take this with {rows} rows a step"


def _warmup_ratio(recipe: Recipe, situation: Situation) -> tuple[float, str]:
    steps = _steps(recipe, situation)
    return (
        WARMUP,
        f"the rate then rises for {math.ceil(WARMUP * steps)} of {steps} steps, a share as in the paper's scripts",
    )


def _steps(recipe: Recipe, situation: Situation) -> int:
    """Return the optimizer steps of the run."""
    assert recipe.epochs is not None
    return math.ceil(recipe.epochs * steps_of_a_pass(recipe, situation))


def _eval_steps(recipe: Recipe, situation: Situation) -> tuple[int, str]:
    a_pass, steps = steps_of_a_pass(recipe, situation), _steps(recipe, situation)
    fewest, most = EVALUATIONS
    chosen = max(1, min(max(a_pass, steps // most), steps // fewest))
    return chosen, f"that makes {steps // chosen} evaluations in {steps} steps"


CHOICES = {
    "routing": _routing,
    "consistency_from": _consistency_from,
    "labels_on": _labels_on,
    "batch_size": _batch_size,
    "epochs": _epochs,
    "learning_rate": _learning_rate,
    "warmup_ratio": _warmup_ratio,
    "eval_steps": _eval_steps,
}
"""Setting → how it is chosen; a later choice may depend on an earlier one."""

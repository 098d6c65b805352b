"""The folder of a run: that it is new, or where the run in it goes on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adamix_train.artifacts.checkpoint import Card, read_card, whole_checkpoints
from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.recipe.recipe import REPORTING, Recipe

STARTED = "recipe.json"
"""Says of a folder that a run was started in it, and which; it comes before everything else."""


def check_new(out: Path) -> None:
    """Raise an error if a new run would write to what is there."""
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file: give another --out")
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty: give another --out, or --resume to go on with the run in it")


def begin(recipe: Recipe, out: Path) -> None:
    """Mark a folder as that of a run."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{STARTED}.partial"
    partial.write_text(json.dumps(asdict(recipe), indent=2, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(out / STARTED)


def resume_point(recipe: Recipe, out: Path) -> Path | None:
    """Return the newest whole step checkpoint of a run with this recipe, or None if it was stopped before the first."""
    if not (out / STARTED).is_file():
        raise CheckpointError(
            f"nothing to resume: no run was started in {out} (it has no {STARTED}); leave out --resume"
        )
    try:
        started = json.loads((out / STARTED).read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{out / STARTED} is damaged: {error}") from error
    check_recipe(recipe, started, out)
    steps = whole_checkpoints(out)
    return steps[-1] if steps else None


def check_recipe(recipe: Recipe, started: dict[str, Any], out: Path) -> None:
    """Raise an error if the run in `out` was started with another recipe; where it reports may differ."""
    for name, value in asdict(recipe).items():
        if name not in REPORTING and started.get(name) != value:
            raise RecipeError(
                f"{name} is {value!r}, but the run in {out} was started with {started.get(name)!r}: put it back, or "
                "give another --out"
            )


def check_same(card: Card, step: Path | None) -> None:
    """Raise an error if what a run is resumed with is not what it was started with."""
    started = read_card(step) if step else card
    for name in ("labels", "base_sha256", "config_sha256", "data"):
        if getattr(card, name) != getattr(started, name):
            raise CheckpointError(f"{name} changed since the run was started: begin a new run, or put it back")

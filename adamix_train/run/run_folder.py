"""The folder of a run: check that it is new, mark it, find the checkpoint to resume from."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from adamix_train.artifacts.atomic_write import write_json
from adamix_train.artifacts.checkpoint import Card, read_card, whole_checkpoints
from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.recipe.defaults import CHOICES
from adamix_train.recipe.paths import absolute_paths
from adamix_train.recipe.recipe import REPORTING, Recipe
from adamix_train.recipe.stored import fields_of_run

STARTED = "recipe.json"
"""File with the recipe of the run that was started in a folder; it is written before any other."""


def check_new(out: Path) -> None:
    """Raise RecipeError if a new run would overwrite something in `out`."""
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file: give another --out")
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty: give another --out, or --resume to go on with the run in it")


def begin(recipe: Recipe, out: Path) -> None:
    """Create the run's folder and store its recipe there."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / STARTED, asdict(recipe))


def resume_point(recipe: Recipe, out: Path) -> tuple[Recipe, Path | None]:
    """Return the recipe with the settings that the run in `out` chose, and the newest complete step checkpoint.

    The checkpoint is None if the run stopped before its first.

    Raises:
        CheckpointError: no run was started in `out`.
        RecipeError: the run in `out` has another recipe.
    """
    if not (out / STARTED).is_file():
        raise CheckpointError(
            f"nothing to resume: no run was started in {out} (it has no {STARTED}); leave out --resume"
        )
    try:
        started = fields_of_run(json.loads((out / STARTED).read_text("utf-8")))
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{out / STARTED} is damaged: {error}") from error
    check_recipe(recipe, started, out)
    chosen: dict[str, Any] = {name: started.get(name) for name in CHOICES if getattr(recipe, name) is None}
    recipe = replace(recipe, **chosen)
    steps = whole_checkpoints(out)
    return recipe, steps[-1] if steps else None


def check_recipe(recipe: Recipe, started: dict[str, Any], out: Path) -> None:
    """Raise RecipeError if the run in `out` was started with another recipe; the fields in REPORTING may differ.

    A field that the stored recipe lacks is newer than the run and counts as its default. A setting that `recipe` leaves
    open agrees with what the run chose.
    """
    stored = {item.name: item.default for item in fields(Recipe)} | absolute_paths(started)
    for name, value in absolute_paths(asdict(recipe)).items():
        left_open = value is None and name in CHOICES
        if name not in REPORTING and not left_open and stored[name] != value:
            raise RecipeError(
                f"{name} is {value!r}, but the run in {out} was started with {stored[name]!r}: put it back, or give "
                f"another --out (with --init-from {out} it begins from the weights of that run, if it has ended)"
            )


def check_same(card: Card, step: Path | None) -> None:
    """Raise CheckpointError if labels, base, data or device are not those that the step checkpoint was trained with."""
    started = read_card(step) if step else card
    for name in ("labels", "base_sha256", "config_sha256"):
        if getattr(card, name) != getattr(started, name):
            raise CheckpointError(f"{name} changed since the run was started: begin a new run, or put it back")
    if [*card.data.values()] != [*started.data.values()]:  # their paths are those of the recipe
        raise CheckpointError("data changed since the run was started: begin a new run, or put it back")
    if started.device and card.device != started.device:
        raise CheckpointError(
            f"{step} was trained on {started.device}, and this machine trains on {card.device}: their random numbers "
            f"differ, so it would not end like a run that did not stop: resume on {started.device}, or begin a new run"
        )

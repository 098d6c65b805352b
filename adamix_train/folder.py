"""The folder of a run: that it is new, or where the run in it goes on."""

from dataclasses import asdict
from pathlib import Path

from adamix_train.checkpoint import Card, read_card, whole_checkpoints
from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.recipe import REPORTING, Recipe


def check_new(out: Path) -> None:
    """Raise an error if a new run would write to what is there."""
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file: give another --out")
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty: give another --out, or --resume to go on with the run in it")


def resume_point(recipe: Recipe, out: Path) -> Path:
    """Return the newest whole step checkpoint, which must be of the same recipe."""
    steps = whole_checkpoints(out)
    if not steps:
        raise CheckpointError(f"nothing to resume: {out} has no whole checkpoint-N folder; start anew without --resume")
    newest = steps[-1]
    started = read_card(newest).recipe
    for name, value in asdict(recipe).items():
        if name not in REPORTING and started.get(name) != value:
            raise RecipeError(f"{name} is {value!r}, but the run in {out} was started with {started.get(name)!r}")
    return newest


def check_same(card: Card, step: Path | None) -> None:
    """Raise an error if what a run is resumed with is not what it was started with."""
    started = read_card(step) if step else card
    for name in ("labels", "base_sha256", "config_sha256", "data"):
        if getattr(card, name) != getattr(started, name):
            raise CheckpointError(f"{name} changed since the run was started: begin a new run, or put it back")

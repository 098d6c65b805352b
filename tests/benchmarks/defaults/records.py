"""Records of trainings, as a workshop returns them."""

from pathlib import Path
from typing import Any

from adamix_train.data.splits import task_of
from adamix_train.recipe.defaults import CHOICES, Situation, complete
from adamix_train.recipe.flags import make_recipe
from benchmarks.defaults.sets import SETS
from benchmarks.defaults.trainings import Training


def record_of(training: Training, score: float) -> dict[str, Any]:
    """Return the record of a training, on a base of MiniLM's width, that reached a score on both parts of the data."""
    recipe = make_recipe(None, training.recipe(Path("base"), Path("out")))
    subject = SETS[training.subject]
    chosen = complete(recipe, Situation(rows=subject.rows, width=384, task=task_of(recipe).kind)).recipe
    return {
        subject.metric: score,
        f"test_{subject.metric}": score,
        "loss": 1 - score,
        "train_examples": subject.rows,
        "steps": 600,
        "settings": {name: getattr(chosen, name) for name in CHOICES},
    }

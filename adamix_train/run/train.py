"""Carry out a recipe: read the data, train, save the best checkpoint, measure it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adamix_train.recipe.recipe import Recipe
from adamix_train.run.inputs import read_inputs

if TYPE_CHECKING:
    from transformers import TrainerCallback


def train(recipe: Recipe, *, resume: bool = False, callbacks: "Sequence[TrainerCallback]" = ()) -> dict[str, Any]:
    """Train, write the best checkpoint to `recipe.out`, and return its results, which are stored as results.json.

    Args:
        recipe: the run.
        resume: continue the interrupted run in `recipe.out` from its last complete step checkpoint.
        callbacks: further callbacks of transformers' Trainer.

    Raises:
        AdaMixError: something is wrong with the recipe, its data or its base, found before `recipe.out` is created;
            or training cannot continue, or was interrupted, and the message names the last good checkpoint.
    """
    inputs = read_inputs(recipe, resume=resume)
    # Imported only now, as it takes seconds: a wrong path or a bad file is reported at once.
    from adamix_train.run.fit import fit
    from adamix_train.run.prepare import prepare
    from adamix_train.run.results import measure, store_results

    run = prepare(inputs)
    trainer = fit(run, callbacks)
    return store_results(run, trainer, measure(run, trainer))

"""Read what a run starts from, without importing torch or transformers."""

from dataclasses import dataclass, replace
from pathlib import Path

from adamix_train.base_model.locate import base_folder
from adamix_train.data.splits import Splits, read_splits, task_of
from adamix_train.recipe.paths import absolute_paths
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.run_folder import check_new, resume_point
from adamix_train.tasks.table import Task


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """A recipe, with its data and the folder of its base."""

    recipe: Recipe
    task: Task
    splits: Splits
    base: Path
    step: Path | None
    """Step checkpoint to resume from; None starts at the first step."""

    @property
    def out(self) -> Path:
        """Folder of the run."""
        return Path(self.recipe.out)


def read_inputs(recipe: Recipe, *, resume: bool) -> RunInputs:
    """Check the run's folder, read its data and locate its base.

    Raises:
        AdaMixError: the folder, the data or the base is not usable; the message says what to do.
    """
    recipe = replace(recipe, **absolute_paths(vars(recipe)))
    out = Path(recipe.out)
    if resume:
        recipe, step = resume_point(recipe, out)
    else:
        check_new(out)
        step = None
    task = task_of(recipe)
    return RunInputs(
        recipe=recipe, task=task, splits=read_splits(recipe, task), base=base_folder(recipe.base), step=step
    )

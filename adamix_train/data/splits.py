"""The training, validation and test data of a run."""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from adamix_train.artifacts.hashing import file_sha256
from adamix_train.data.examples import Example, label_names, make_examples, named, read_examples, warn_of_rare_labels
from adamix_train.data.sampling import first_of_each, split_off
from adamix_train.errors import DataError, RecipeError
from adamix_train.readers.hub import load_hub
from adamix_train.readers.reader import DELIMITERS
from adamix_train.recipe.paths import file_names
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.kinds import TASK_KINDS
from adamix_train.tasks.table import TASKS, Task

LOSS = "loss"
"""Selects the checkpoint with the lowest validation loss, in place of a metric."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Examples of a run."""

    train: list[Example]
    validation: list[Example]
    """Data that selects the best checkpoint."""
    test: list[Example]
    """Data for the final metrics; may be empty."""
    labels: list[str] = field(default_factory=list)
    """Classification: label names, in the order of the logits."""
    source: dict[str, str] = field(default_factory=dict)
    """Data file → SHA-256, or split of a Hub set → fingerprint."""


def task_of(recipe: Recipe) -> Task:
    """Return the recipe's task with the recipe's columns and prompt."""
    task = TASKS[recipe.task]
    if recipe.pair_column and len(task.inputs) < 2:
        raise DataError(f"task {recipe.task} takes one text: leave out --pair-column, or choose a task for pairs")
    if recipe.class_weights and not TASK_KINDS[task.kind].stratified:
        raise RecipeError(f"task {recipe.task} has no classes to weigh: leave out --class-weights")
    choices = (LOSS,) if task.kind == "generation" else (*task.metrics, LOSS)
    if recipe.metric and recipe.metric not in choices:
        known = ", ".join(choices)
        raise RecipeError(f"metric is {recipe.metric!r}; checkpoints of task {recipe.task} are selected by {known}")
    names = (recipe.text_column, recipe.pair_column)
    return replace(
        task,
        inputs=tuple(given or column for given, column in zip(names, task.inputs, strict=False)),
        target=recipe.label_column or task.target,
        prompt=recipe.prompt or task.prompt,
        metrics=tuple(dict.fromkeys(name for name in (recipe.metric, *task.metrics) if name and name != LOSS)),
        delimiter=DELIMITERS.get(recipe.delimiter, recipe.delimiter) if recipe.delimiter else None,
    )


def read_splits(recipe: Recipe, task: Task) -> Splits:
    """Read the files that a recipe names, or the task's sets from the Hub if it names no training file.

    Raises:
        DataError: a file is not what the task needs, or the splits do not fit each other.
    """
    if recipe.train_file:
        train, test, source = read_all(recipe.train_file, task), list[Example](), dict[str, str]()
    else:
        train, test, source = _from_hub(recipe, task)
    if recipe.test_file:
        test = read_all(recipe.test_file, task)
    kind, shots = TASK_KINDS[task.kind], recipe.shots
    if recipe.validation_file:
        validation = read_all(recipe.validation_file, task)
    else:
        count = (lambda _: shots) if shots else (lambda size: round(recipe.validation_share * size))
        train, validation = split_off(
            train, kind, count=count, seed=recipe.seed, what="the validation data", exact=bool(shots)
        )
    given = [recipe.train_file, recipe.validation_file, recipe.test_file]
    source |= {file: file_sha256(Path(file)) for names in given if names for file in file_names(names)}
    labels = label_names(train, validation, task.labels) if kind.stratified else []
    if shots:
        _, train = split_off(train, kind, count=lambda _: shots, seed=recipe.seed, what="--shots")
    random.Random(recipe.seed).shuffle(train)
    train = first_of_each(train, recipe.train_limit, kind)
    warn_of_rare_labels(train, validation, labels)
    if labels and (strange := sorted({example.target for example in test} - set(labels))):
        raise DataError(f"the test data has labels that the training data lacks: {named(strange)}")
    return Splits(train=train, validation=validation, test=test, labels=labels, source=source)


def read_all(files: str, task: Task) -> list[Example]:
    """Return the examples of one file, or of several separated by commas."""
    return [example for file in file_names(files) for example in read_examples(Path(file), task)]


def _from_hub(recipe: Recipe, task: Task) -> tuple[list[Example], list[Example], dict[str, str]]:
    """Return the training set, the test set and their fingerprints."""
    if task.hub is None:
        raise DataError(f"task {recipe.task} needs --train-file: it has no set on the Hub")
    sets = load_hub(task.hub, target=task.target)
    train = make_examples(sets.train, task, f"{task.hub.path} train")
    test = make_examples(sets.test, task, f"{task.hub.path} {task.hub.test}")
    return train, test, sets.fingerprints

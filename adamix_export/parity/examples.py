"""Labelled examples to compare an exported adapter on."""

from pathlib import Path

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_train.data.examples import Example
from adamix_train.data.held_out import HELD_OUT, read_held_out
from adamix_train.data.splits import read_all, task_of
from adamix_train.recipe.recipe import Recipe


def parity_examples(checkpoint: Checkpoint, check: Check) -> tuple[list[Example], str]:
    """Return examples and the names of their files.

    They are read from the check's data, or else from the run's test or validation file, or else they are those that the
    run held out and kept. Without any of these the list is empty and only the canary texts are compared.
    """
    recipe = Recipe(**checkpoint.card.recipe)
    own = [files for files in (recipe.test_file, recipe.validation_file) if files]
    available = [str(check.data)] if check.data else [files for files in own if files_exist(files)]
    if not available:
        held_out = read_held_out(task_of(recipe), checkpoint.folder)[: check.limit]
        return held_out, HELD_OUT if held_out else "canary texts"
    examples = read_all(available[0], task_of(recipe))[: check.limit]
    checkpoint.check_labels(examples, available[0])
    return examples, ",".join(Path(file).name for file in available[0].split(","))


def files_exist(files: str) -> bool:
    """Return True if every file of a comma-separated list exists."""
    return all(Path(file.strip()).is_file() for file in files.split(","))

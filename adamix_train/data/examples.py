"""Make a task's examples from rows of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adamix_train.errors import DataError
from adamix_train.readers.files import Row, read_rows
from adamix_train.tasks.kinds import TASK_KINDS
from adamix_train.tasks.table import Task


@dataclass(frozen=True)
class Example:
    """Input and expected output of the model."""

    texts: tuple[str, ...]
    """One text, or a pair."""
    target: str
    """Label name, score in digits, or target text."""


def read_examples(file: Path, task: Task) -> list[Example]:
    """Return the examples of a data file; raise DataError if the file or a row is not what the task needs."""
    return make_examples(read_rows(file, readers=task.readers, header=task.header, quoted=task.quoted), task, file)


def make_examples(rows: Sequence[Row], task: Task, source: object) -> list[Example]:
    """Return the examples in `rows`; a DataError names `source` and the row, counted from 1."""
    return [_example(row, task, source, number) for number, row in enumerate(rows, 1)]


def _example(row: Row, task: Task, source: object, number: int) -> Example:
    row = {task.rename.get(name, name): value for name, value in row.items()}
    kind = TASK_KINDS[task.kind]
    for column, noun in {**dict.fromkeys(task.inputs, "text"), task.target: kind.noun}.items():
        if column not in row:
            raise DataError(
                f"{source} has no column {column!r} in row {number}; its columns are {', '.join(row)} "
                "(select others with --text-column, --pair-column and --label-column)"
            )
        if not row[column].strip():
            raise DataError(f"{source}: the {noun} of row {number} is empty")
    target = kind.check(row[task.target].strip(), task.labels, f"{source}, row {number}")
    return Example(tuple(row[column] for column in task.inputs), target)


def label_names(train: Sequence[Example], validation: Sequence[Example], labels: Sequence[str] | None) -> list[str]:
    """Return the label names in order: that of `labels`, or alphabetical.

    Raises:
        DataError: the two splits do not have the same labels, or there is only one.
    """
    splits = {
        "training": {example.target for example in train},
        "validation": {example.target for example in validation},
    }
    for here, there in (("training", "validation"), ("validation", "training")):
        if lone := sorted(splits[here] - splits[there]):
            raise DataError(
                f"labels seen in the {here} data only: {', '.join(map(repr, lone[:5]))}; "
                "the training and the validation data need the same labels"
            )
    if len(splits["training"]) < 2:
        raise DataError(f"the data has one label only, {train[0].target!r}; a classifier needs two")
    return [label for label in labels or sorted(splits["training"]) if label in splits["training"]]

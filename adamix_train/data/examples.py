"""Make a task's examples from rows of text."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adamix_train.data.values import as_text, check_label_types
from adamix_train.errors import DataError
from adamix_train.readers.files import read_rows
from adamix_train.readers.reader import Row, listed
from adamix_train.tasks.kinds import TASK_KINDS
from adamix_train.tasks.table import Task

MAX_NAMED = 5
"""Labels that a message names."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """Input and expected output of the model."""

    texts: tuple[str, ...]
    """One text, or a pair."""
    target: str
    """Label name, score in digits, or target text."""


def read_examples(file: Path, task: Task) -> list[Example]:
    """Return the examples of a data file; raise DataError if the file or a row is not what the task needs."""
    return make_examples(read_rows(file, readers=task.readers, form=task.file_format), task, file)


def make_examples(rows: Sequence[Row], task: Task, source: object) -> list[Example]:
    """Return the examples in `rows`; a DataError names `source` and the row's place.

    Rows without all values of a task whose files are not quoted are left out with a warning, as GLUE's loader leaves
    them out.
    """
    kind = TASK_KINDS[task.kind]
    named = [Row({task.rename.get(name, name): value for name, value in row.values.items()}, row.place) for row in rows]
    for row in named:
        check_columns(row, task, source)
    cut = [] if task.quoted else [row for row in named if _is_cut(row, task)]
    if cut:
        logger.warning("%s: %d rows lack a value and are left out; the first is %s", source, len(cut), cut[0].place)
        named = [row for row in named if not _is_cut(row, task)]
    if kind.stratified:
        check_label_types([(row.values[task.target], row.place) for row in named], source)
    return [_example(row, task, source) for row in named]


def check_columns(row: Row, task: Task, source: object) -> None:
    """Raise DataError if a row lacks a column that the task reads."""
    for column in (*task.inputs, task.target):
        if column not in row.values:
            raise DataError(
                f"{source} has no column {column!r} in {row.place}; its columns are {listed(row.values)} "
                "(select others with --text-column, --pair-column and --label-column, or the character between them "
                "with --delimiter)"
            )


def _is_cut(row: Row, task: Task) -> bool:
    columns = (*task.inputs, task.target)
    return any(row.values[column] is None for column in columns) or row.values[task.target] == ""


def _example(row: Row, task: Task, source: object) -> Example:
    kind = TASK_KINDS[task.kind]
    texts = tuple(as_text(row.values[column], "text", row.place, source) for column in task.inputs)
    target = as_text(row.values[task.target], kind.noun, row.place, source).strip()
    empty = [(text, "text") for text in texts if task.quoted] + [(target, kind.noun)]
    for text, noun in empty:
        if not text.strip():
            raise DataError(f"{source}: the {noun} of {row.place} is empty")
    return Example(texts, kind.check(target, task.labels, f"{source}, {row.place}"))


def label_names(train: Sequence[Example], validation: Sequence[Example], labels: Sequence[str] | None) -> list[str]:
    """Return the names of the labels in the training data, in order: that of `labels`, or alphabetical.

    Raises:
        DataError: the validation data has a label that cannot be learned, or there is only one label.
    """
    learned = {example.target for example in train}
    if lone := sorted({example.target for example in validation} - learned):
        raise DataError(f"labels that are in the validation data and not in the training data: {named(lone)}")
    if len(learned) < 2:
        raise DataError(f"the data has one label only, {train[0].target!r}; a classifier needs two")
    return [label for label in labels or sorted(learned) if label in learned]


def warn_of_rare_labels(train: Sequence[Example], validation: Sequence[Example], labels: Sequence[str]) -> None:
    """Log the labels that have no example to train on, or none to validate on."""
    for examples, effect in ((train, "are not learned"), (validation, "do not count in choosing a checkpoint")):
        seen = {example.target for example in examples}
        if lacking := [label for label in labels if label not in seen]:
            what = "training" if examples is train else "validation"
            logger.warning("no %s example for %d labels, which %s: %s", what, len(lacking), effect, named(lacking))


def named(labels: Sequence[str]) -> str:
    """Return a few labels, quoted, and how many more there are."""
    shown = ", ".join(map(repr, labels[:MAX_NAMED]))
    return shown + (f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else "")

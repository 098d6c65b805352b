"""Labelled texts of a classification task."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adamix_train.errors import DataError
from adamix_train.tasks.files import read_rows
from adamix_train.tasks.table import Task


@dataclass(frozen=True)
class Example:
    """A text and the name of its label."""

    text: str
    label: str


def read_examples(file: Path, task: Task) -> list[Example]:
    """Return the examples of a data file, its labels by name."""
    rows = read_rows(file, header=task.header, quoted=task.quoted)
    for number, row in enumerate(rows, 1):
        for column in (task.text_column, task.label_column):
            if column not in row:
                raise DataError(
                    f"{file} has no column {column!r} in row {number}; its columns are {', '.join(row)} "
                    "(name others with --text-column and --label-column)"
                )
        if not row[task.text_column].strip():
            raise DataError(f"{file}: the text of row {number} is empty")
        if not row[task.label_column].strip():
            raise DataError(f"{file}: the label of row {number} is empty")
    return [Example(row[task.text_column], _label(row[task.label_column].strip(), task, file)) for row in rows]


def _label(value: str, task: Task, file: Path) -> str:
    if task.labels is None:
        return value
    if not value.isdecimal() or int(value) >= len(task.labels):
        raise DataError(f"{file}: label {value!r} is not one of 0 to {len(task.labels) - 1}")
    return task.labels[int(value)]


def label_names(train: Sequence[Example], validation: Sequence[Example], task: Task) -> list[str]:
    """Return the labels in their order, having checked that both splits show the same ones."""
    splits = {"training": {example.label for example in train}, "validation": {example.label for example in validation}}
    for here, there in (("training", "validation"), ("validation", "training")):
        if lone := sorted(splits[here] - splits[there]):
            raise DataError(
                f"labels seen in the {here} data only: {', '.join(map(repr, lone[:5]))}; "
                "the training and the validation data need the same labels"
            )
    if len(splits["training"]) < 2:
        raise DataError(f"the data has one label only, {train[0].label!r}; a classifier needs two")
    return [label for label in task.labels or sorted(splits["training"]) if label in splits["training"]]


def hold_out(examples: Sequence[Example], *, share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split off `share` of the examples of each label, at least one, and return what stays and what was split off."""
    by_label: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_label[example.label].append(example)
    for label, count in Counter(example.label for example in examples).items():
        if count < 2:
            raise DataError(f"label {label!r} has one example; it needs two to be in both splits, or a validation file")
    kept: list[Example] = []
    held: list[Example] = []
    for label in sorted(by_label):
        members = by_label[label]
        random.Random(f"{seed}/{label}").shuffle(members)
        cut = min(max(1, round(share * len(members))), len(members) - 1)
        held += members[:cut]
        kept += members[cut:]
    return kept, held

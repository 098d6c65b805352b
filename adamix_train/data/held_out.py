"""The held-out examples of a run, kept in its folder: an export is compared on them where there is no test file."""

import json
from collections.abc import Sequence
from pathlib import Path

from adamix_train.artifacts.atomic_write import write_text
from adamix_train.data.examples import Example, read_examples
from adamix_train.tasks.table import Task

HELD_OUT = "held_out.jsonl"


def save_held_out(examples: Sequence[Example], task: Task, folder: Path) -> None:
    """Write one JSON object an example, with the task's columns."""
    rows = ({**dict(zip(task.inputs, one.texts, strict=True)), task.target: one.target} for one in examples)
    write_text(folder / HELD_OUT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_held_out(task: Task, folder: Path) -> list[Example]:
    """Return the held-out examples of a run; none if it kept none."""
    file = folder / HELD_OUT
    return read_examples(file, task) if file.is_file() else []

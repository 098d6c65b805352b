"""The tasks by name; a new one is a line in the table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """How a task's files are read and how it is judged."""

    header: tuple[str, ...] | None = None
    """The columns of its files where they have no header line."""
    quoted: bool = True
    """Whether a quotation mark in a field is syntax rather than text."""
    text_column: str = "text"
    label_column: str = "label"
    labels: tuple[str, ...] | None = None
    """Names for the labels 0, 1, … that stand in its files; None takes the labels as they stand."""
    metric: str = "accuracy"


TASKS: dict[str, Task] = {
    "classification": Task(),
    "sst2": Task(header=("sentence", "label"), quoted=False, text_column="sentence", labels=("negative", "positive")),
}

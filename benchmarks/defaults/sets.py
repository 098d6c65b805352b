"""The data sets that are learned; a new one is an entry in the table."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from adamix_train.artifacts.atomic_write import atomic_file
from benchmarks.support.data import data_file
from demos.tasks import DATA as DEMO

STEPS = (80, 240, 720)
"""Optimizer steps of the grid's runs."""
TESTED = 60
"""Inputs whose texts are generated for a test."""
_ONE_WRITER = Lock()
"""Trainings of a set are prepared in threads, and their processes read the files that are made."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A small data set, the base that learns it, and the metric that is compared."""

    rows: int
    metric: str
    files: Callable[[Path], dict[str, str]]
    """Takes a folder for files that are made; returns the fields of a recipe that name the data."""
    base: str = "minilm"
    steps: tuple[int, ...] = STEPS
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that a user has to give in any case."""


def shared(train: str, test: str) -> Callable[[Path], dict[str, str]]:
    """Return a maker of fields for two files below the data folder."""
    return lambda made: {"train_file": str(data_file(train)), "test_file": str(data_file(test))}


def of_demo(task: str) -> Callable[[Path], dict[str, str]]:
    """Return a maker of fields for a task of the demo."""
    return lambda made: {name: str(DEMO / task / f"{name[:-5]}.csv") for name in ("train_file", "test_file")}


def tone_as_scores(made: Path) -> dict[str, str]:
    """Write the demo's tones as scores: 1 for positive, 0 for negative."""
    for part in ("train", "test"):
        with (DEMO / "tone" / f"{part}.csv").open() as stream:
            rows = [{"text": row["text"], "score": int(row["label"] == "positive")} for row in csv.DictReader(stream)]
        _write(made / f"scores-{part}.csv", rows)
    return {"train_file": str(made / "scores-train.csv"), "test_file": str(made / "scores-test.csv")}


def restaurants(made: Path) -> dict[str, str]:
    """Write the first test inputs of E2E, with all their references."""
    fields = shared("e2e/devset.csv", "e2e/testset_w_refs.csv")(made)
    with Path(fields["test_file"]).open() as stream:
        rows = list(csv.DictReader(stream))
    inputs = list(dict.fromkeys(row["mr"] for row in rows))[:TESTED]
    _write(made / "e2e-test.csv", [row for row in rows if row["mr"] in inputs])
    return fields | {"test_file": str(made / "e2e-test.csv")}


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    with _ONE_WRITER, atomic_file(file) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _of_glue(task: str, train: str, test: str, rows: int, metric: str = "accuracy") -> DataSet:
    fields = {"task": task, "train_limit": rows}
    return DataSet(rows=rows, metric=metric, files=shared(f"{task}/{train}", f"{task}/{test}"), fields=fields)


SETS: dict[str, DataSet] = {
    "tone": DataSet(rows=288, metric="accuracy", files=of_demo("tone")),
    "intent": DataSet(rows=297, metric="accuracy", files=of_demo("intent"), fields={"kind": "lora", "r": 8}),
    "scores": DataSet(rows=288, metric="pearson", files=tone_as_scores, fields={"task": "regression"}),
    "sst2-100": _of_glue("sst2", "train.tsv", "test.tsv", 100),
    "mrpc-100": _of_glue("mrpc", "train.txt", "test.txt", 100, "f1"),
    "sst2-1000": _of_glue("sst2", "train.tsv", "test.tsv", 1000),
    "mrpc-1000": _of_glue("mrpc", "train.txt", "test.txt", 1000, "f1"),
    "e2e-500": DataSet(
        rows=500,
        metric="bleu",
        files=restaurants,
        base="smollm2",
        steps=(30, 90, 270),
        fields={"task": "e2e_nlg", "kind": "lora", "r": 8, "lora_alpha": 16.0, "train_limit": 500},
    ),
}
"""CoLA is left out: MiniLM cannot learn it from 1,000 sentences at any setting."""

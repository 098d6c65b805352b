"""Runs, grids and outcomes of the comparison of methods; its data files need not be there."""

import pytest

from benchmarks.quality.grid import Grid, Outcome
from benchmarks.quality.runs import Budget, Run
from benchmarks.quality.tasks import Subject


@pytest.fixture
def named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every task name files without looking for them."""
    monkeypatch.setattr(Subject, "files", lambda self: {"train_file": "train.tsv", "test_file": "test.tsv"})


def run(method: str, **fields: object) -> Run:
    return Run(
        **{
            "subject": "sst2",
            "method": method,
            "rate": 1e-3,
            "seed": 0,
            "budget": Budget(),
            "precision": "fp32",
            **fields,
        }
    )


def outcome(**accuracies: list[float]) -> Outcome:
    records = {
        ("sst2", Budget(), method): [
            {"test_accuracy": value, "trained_parameters": 1, "routes": {}} for value in values
        ]
        for method, values in accuracies.items()
    }
    return Outcome(rates={("sst2", method): 1e-3 for method in accuracies}, records=records)


def grid(*methods: str) -> Grid:
    return Grid(subjects=["sst2"], methods=methods, seeds=2)

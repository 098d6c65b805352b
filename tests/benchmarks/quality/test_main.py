import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import __main__ as command
from benchmarks.quality.__main__ import _methods, main
from benchmarks.quality.grid import Grid, Outcome
from benchmarks.quality.methods import CLASSIFIERS, WRITERS
from benchmarks.quality.runs import Budget, Workshop
from benchmarks.support import data
from benchmarks.support.report import Findings


def test_all_methods_can_be_asked_for_at_once() -> None:
    args = argparse.Namespace(methods=["all"], tasks=["sst2", "e2e"], quick=False)
    assert set(_methods(args)) == {*CLASSIFIERS, *WRITERS}


@pytest.fixture
def explored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Grid, Workshop]]:
    """Collect the grids that are asked for, with their workshops, in place of carrying them out."""
    asked: list[tuple[Grid, Workshop]] = []

    def explore(grid: Grid, workshop: Workshop) -> Outcome:
        asked.append((grid, workshop))
        return Outcome()

    empty = Findings(goals=[], rows=[], versions={}, worst="none")
    monkeypatch.setattr(data, "sample_model", lambda name: Path(name))
    monkeypatch.setattr(command, "explore", explore)
    monkeypatch.setattr(command, "findings_of", lambda *_: empty)
    return asked


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--tasks", "sst2,sst3"], "unknown task 'sst3'; known are sst2, mrpc, cola, e2e"),
        (
            ["--tasks", "e2e", "--methods", "lora, adapter"],
            "unknown method 'adapter'; known are adamix-lora, full, lora",
        ),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known(
    arguments: list[str], error: str, explored: list[tuple[Grid, Workshop]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert error in capsys.readouterr().err
    assert not explored


def test_the_command_line_is_the_grid(explored: list[tuple[Grid, Workshop]]) -> None:
    main(
        [
            *("--tasks", "sst2,e2e", "--methods", "adamix,adamix-lora", "--seeds", "5", "--shots", "16,32"),
            *("--longer", "4", "--rate", "0.003", "--precision", "fp32", "--jobs", "2", "--runs", "kept"),
        ]
    )
    main(["--tasks", "sst2", "--quick", "--jobs", "1"])
    common: dict[str, Any] = {"methods": ["adamix", "adamix-lora"], "seeds": 5, "rate": 0.003, "precision": "fp32"}
    budgets = [Budget(shots=16), Budget(shots=32), Budget(times=4)]
    assert explored == [
        (
            Grid(subjects=["sst2", "e2e"], others=budgets, **common),
            Workshop(folder=Path("kept"), bases={"sst2": Path("minilm"), "e2e": Path("smollm2")}, jobs=2),
        ),
        (
            Grid(
                subjects=["sst2"], methods=["adapter", "adamix"], seeds=3, others=[], scale=0.1, rates=1, routes=False
            ),
            Workshop(folder=Path("runs/quality"), bases={"sst2": Path("minilm")}, jobs=1),
        ),
    ]


def test_a_base_that_is_not_to_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise OSError(f"{name} could not be fetched")

    monkeypatch.setattr(data, "sample_model", missing)
    with pytest.raises(SystemExit, match=r"benchmarks\.quality: the base models are not to be had: minilm could not"):
        main(["--quick"])

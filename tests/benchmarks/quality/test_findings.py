from typing import Any

import pytest

from benchmarks.quality.findings import AGAINST, findings_of, goal_against, rate_of, rows_of
from benchmarks.quality.grid import Outcome
from benchmarks.quality.methods import CLASSIFIERS, WRITERS
from benchmarks.quality.runs import Budget
from tests.benchmarks.quality.conftest import grid, outcome


def test_goals_are_paired_differences_in_points() -> None:
    both = outcome(adamix=[0.82, 0.80], adapter=[0.81, 0.80])
    goal = goal_against("adamix", "adapter", 0.5, grid("adamix", "adapter"), both)
    assert goal is not None
    assert goal.value == pytest.approx(0.5)
    assert goal.met
    assert "standard error 0.50" in goal.what
    assert goal_against("adamix", "full", 0.0, grid("adamix"), outcome(adamix=[0.8])) is None


def test_the_worst_goal_is_the_one_furthest_below() -> None:
    both = outcome(adamix=[0.82, 0.82], adapter=[0.82, 0.82], full=[0.822, 0.822])
    findings = findings_of(grid("adamix", "adapter", "full"), both, {})
    assert "adamix above adapter" in findings.worst


def test_text_writers_have_goals() -> None:
    assert {name for ours, others in AGAINST.items() for name in (ours, *others)} <= {*CLASSIFIERS, *WRITERS}
    assert AGAINST["adamix-lora"].keys() <= WRITERS.keys()


def test_a_rate_at_the_edge_is_marked() -> None:
    rates = CLASSIFIERS["adamix"].rates
    marks = [rate_of(Outcome(rates={("sst2", "adamix"): rate}), "sst2", "adamix").endswith("*") for rate in rates]
    assert marks == [True, False, False, True]


def test_the_table_has_a_row_for_each_method() -> None:
    findings = findings_of(grid("adamix", "adapter"), outcome(adamix=[0.82, 0.80], adapter=[0.81, 0.80]), {})
    assert [row["method"] for row in findings.rows] == ["adamix", "adapter"]
    assert [row["mean"] for row in findings.rows] == pytest.approx([81.0, 80.5])


def test_other_ways_to_run_a_mixture_have_rows_and_other_metrics_a_column() -> None:
    def record(accuracy: float, f1: float, first: float) -> dict[str, Any]:
        routes = {"mean": accuracy, "first module": first}
        return {"test_accuracy": accuracy, "test_f1": f1, "trained_parameters": 7, "routes": routes}

    records = [record(0.75, 0.8, 0.5), record(0.5, 0.9, 0.75)]
    found = Outcome(rates={("mrpc", "adamix"): 3e-3}, records={("mrpc", Budget(shots=16), "adamix"): records})
    assert rows_of(found) == [
        {
            "task": "mrpc",
            "examples": "K = 16",
            "method": method,
            "mean": 62.5,
            "deviation": pytest.approx(12.5 * 2**0.5),
            "seeds": seeds,
            "rate": "0.003",
            "parameters": 7,
            "others": others,
        }
        for method, seeds, others in (
            ("adamix", "75.0 50.0", "f1 0.850"),
            ("adamix: first module", "50.0 75.0", ""),
        )
    ]

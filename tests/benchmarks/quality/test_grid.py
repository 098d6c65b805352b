from typing import Any

import pytest

from benchmarks.quality.grid import Grid, best_rate, explore
from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.runs import Budget, Run
from tests.benchmarks.quality.conftest import run


def test_the_rate_is_chosen_on_held_out_data() -> None:
    runs = [run("adamix", rate=rate) for rate in (1.0, 2.0, 3.0)]
    records = {
        one: {"accuracy": accuracy, "test_accuracy": -accuracy}
        for one, accuracy in zip(runs, (0.1, 0.9, 0.5), strict=True)
    }
    assert best_rate(runs, records) == 2.0
    losses = {one: {"loss": loss} for one, loss in zip(runs, (1.0, 2.0, 0.5), strict=True)}
    assert best_rate(runs, losses) == 3.0


def test_a_given_rate_is_not_searched() -> None:
    given = Grid(subjects=["sst2"], methods=None, seeds=1, rate=0.5)
    assert {rate for method in CLASSIFIERS.values() for rate in given.rates_of(method)} == {0.5}


@pytest.mark.parametrize(("rates", "tried"), [(None, [1e-3, 3e-3, 6e-3, 1.2e-2]), (1, [6e-3])])
def test_a_shorter_search_begins_at_the_middle_rate(rates: int | None, tried: list[float]) -> None:
    short = Grid(subjects=["sst2"], methods=None, seeds=1, rates=rates)
    assert list(short.rates_of(CLASSIFIERS["adamix"])) == tried


class Bench:
    """A workshop in which the third rate of a method is best on held-out data and worst on test data."""

    def __init__(self) -> None:
        self.asked: list[list[Run]] = []

    def records(self, runs: list[Run]) -> dict[Run, dict[str, Any]]:
        self.asked.append(runs)
        best = {"adamix": 6e-3, "adamix-lora": 3e-3}
        return {one: self.record(one, one.rate == best[one.method]) for one in runs}

    def record(self, one: Run, best: bool) -> dict[str, Any]:
        held_out = {"accuracy": 0.9 if best else 0.8} if one.subject == "sst2" else {"loss": 1.0 if best else 2.0}
        return {**held_out, "seed": one.seed, "test_accuracy": 0.1 if best else 0.99}


def test_rates_are_searched_with_the_first_seed_and_the_other_runs_take_the_best() -> None:
    """Tasks without labels have no few-shot runs."""
    bench: Any = Bench()
    shots, longer = Budget(shots=16), Budget(times=4)
    both = Grid(subjects=["sst2", "e2e"], methods=["adamix", "adamix-lora"], seeds=2, others=[shots, longer])
    found = explore(both, bench)
    search, rest = bench.asked
    assert {(one.method, one.seed, one.budget) for one in search} == {
        ("adamix", 0, Budget()),
        ("adamix-lora", 0, Budget()),
    }
    assert found.rates == {("sst2", "adamix"): 6e-3, ("e2e", "adamix-lora"): 3e-3}
    keys = [("sst2", budget, "adamix") for budget in (Budget(), shots, longer)]
    keys += [("e2e", budget, "adamix-lora") for budget in (Budget(), longer)]
    assert [(one.subject, one.budget, one.method, one.rate, one.seed) for one in rest] == [
        (subject, budget, method, found.rates[subject, method], seed)
        for subject, budget, method in keys
        for seed in (0, 1)
    ]
    assert list(found.records) == keys
    assert all([record["seed"] for record in records] == [0, 1] for records in found.records.values())

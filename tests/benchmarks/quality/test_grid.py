import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks.quality.findings import findings_of
from benchmarks.quality.grid import Grid, best_rate, explore
from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.support.errors import OutOfTimeError
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

    jobs = 1

    def __init__(self) -> None:
        self.asked: list[list[Run]] = []

    def records(self, runs: list[Run], *, at_once: int | None = None) -> dict[Run, dict[str, Any]]:
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
    assert len(bench.asked) == 4, "a search and its other runs, one method after another"
    search, rest = (bench.asked[first] + bench.asked[first + 2] for first in (0, 1))
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


class Timed(Workshop):
    """Carries out runs in no time, until the deadline: the metric of a run is its rate, and `most` runs have time."""

    most: ClassVar[int] = 0
    carried: ClassVar[list[str]] = []

    def _carry_out(self, run: Run) -> None:
        if len(self.carried) >= self.most:
            raise OutOfTimeError(f"the time is over before {run.name}")
        self.carried.append(run.name)
        record = self._record(run)
        record.parent.mkdir(parents=True)
        metrics = {"accuracy": run.rate, "test_accuracy": run.rate, "trained_parameters": 1, "routes": {}}
        record.write_text(json.dumps({"recipe": self._recipe(run), **metrics}))


def timed(folder: Path, most: int) -> Timed:
    Timed.most, Timed.carried = most, []
    return Timed(folder=folder, bases={"sst2": Path("base"), "mrpc": Path("base")}, jobs=1)


@pytest.mark.usefixtures("named_files")
def test_whole_methods_are_finished_and_those_that_are_left_are_named(tmp_path: Path) -> None:
    """Four rates and one more seed: five runs are one method, and the sixth is of the next."""
    wanted = Grid(subjects=["sst2", "mrpc"], methods=["adapter", "adamix"], seeds=2)
    first = explore(wanted, timed(tmp_path, most=6))
    assert first.left == [("sst2", "adamix"), ("mrpc", "adapter"), ("mrpc", "adamix")]
    assert list(first.records) == [("sst2", Budget(), "adapter")]
    assert first.rates == {("sst2", "adapter"): max(CLASSIFIERS["adapter"].rates)}
    assert [one["accuracy"] for one in first.records["sst2", Budget(), "adapter"]] == [0.012, 0.012]
    findings = findings_of(wanted, first, {})
    assert [absent.peer for absent in findings.absent] == ["adamix on sst2", "adapter on mrpc", "adamix on mrpc"]
    assert findings.goals == []
    workshop = timed(tmp_path, most=100)
    second = explore(wanted, workshop)
    assert second.left == []
    assert len(workshop.carried) == 4 * 5 - 6, "finished runs are kept"
    assert [key[::2] for key in second.records] == [
        ("sst2", "adapter"),
        ("sst2", "adamix"),
        ("mrpc", "adapter"),
        ("mrpc", "adamix"),
    ]
    assert findings_of(wanted, second, {}).goals[0].what.startswith("adamix above adapter, points, mean of 4 pairs")

import argparse
import json
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.flags import make_recipe
from benchmarks.quality.__main__ import _methods
from benchmarks.quality.findings import AGAINST, findings_of, goal_against, rate_of
from benchmarks.quality.grid import Grid, Outcome, best_rate, explore
from benchmarks.quality.methods import CLASSIFIERS, WRITERS
from benchmarks.quality.routes import routed
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.quality.tasks import SUBJECTS, Subject
from benchmarks.support.errors import BenchmarkError, OutOfTimeError


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("shots", [None, 16, 32])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_method_takes_as_many_steps_and_rows_as_the_others(subject: str, shots: int | None) -> None:
    """Rows through the base in a step, and steps."""
    budgets = set()
    for name, method in SUBJECTS[subject].methods.items():
        recipe = make_recipe(
            None, run(name, subject=subject, budget=Budget(shots=shots)).recipe(Path("base"), Path("out"))
        )
        examples = 2 * shots if shots else SUBJECTS[subject].examples
        budgets.add((recipe.batch_size * method.views, round(recipe.epochs * examples / recipe.batch_size)))
        assert (method.views == 2) == bool(recipe.consistency_weight)
    assert len(budgets) == 1


def test_every_method_has_as_many_rates_to_choose_from() -> None:
    for methods in (CLASSIFIERS, WRITERS):
        assert len({len(method.rates) for method in methods.values()}) == 1


def test_runs_that_differ_have_names_that_differ() -> None:
    runs = [
        run("adamix"),
        run("adapter"),
        run("adamix", seed=1),
        run("adamix", rate=2e-3),
        run("adamix", budget=Budget(shots=16)),
    ]
    runs += [
        run("adamix", budget=Budget(scale=0.1)),
        run("adamix", budget=Budget(times=4)),
        run("adamix", precision="bf16"),
    ]
    assert len({one.name for one in runs}) == len(runs)


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


def test_a_record_of_another_recipe_is_not_taken(tmp_path: Path) -> None:
    one = run("adamix")
    workshop = Workshop(folder=tmp_path, bases={"sst2": Path("base")}, jobs=1)
    record = tmp_path / one.name / "record.json"
    record.parent.mkdir()
    recipe = one.recipe(Path("elsewhere"), Path("out"))
    record.write_text(json.dumps({"recipe": recipe}))
    assert workshop.records([one])[one]["recipe"] == recipe
    record.write_text(json.dumps({"recipe": {**recipe, "epochs": 1.0}}))
    with pytest.raises(BenchmarkError, match="is of another recipe: epochs differ"):
        workshop.records([one])


def test_the_table_has_a_row_for_each_method() -> None:
    findings = findings_of(grid("adamix", "adapter"), outcome(adamix=[0.82, 0.80], adapter=[0.81, 0.80]), {})
    assert [row["method"] for row in findings.rows] == ["adamix", "adapter"]
    assert [row["mean"] for row in findings.rows] == pytest.approx([81.0, 80.5])


def test_a_trained_mixture_can_be_run_through_one_of_its_modules() -> None:
    mixture = MixtureLinear(3, 4, 5, bias=False).eval()
    torch.nn.init.normal_(mixture.weight)
    x = torch.randn(2, 4)
    mean = mixture(x)
    with routed({"site": mixture}):
        mixture.route = (1,)
        np.testing.assert_allclose(mixture(x).detach(), (x @ mixture.weight[1].T).detach(), rtol=1e-5)
    torch.testing.assert_close(mixture(x), mean)


def test_all_methods_can_be_asked_for_at_once() -> None:
    args = argparse.Namespace(methods=["all"], tasks=["sst2", "e2e"], quick=False)
    assert set(_methods(args)) == {*CLASSIFIERS, *WRITERS}


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


def test_no_run_begins_after_the_deadline(tmp_path: Path) -> None:
    late = Workshop(folder=tmp_path, bases={"sst2": Path("base")}, jobs=1, deadline=time.monotonic())
    with pytest.raises(OutOfTimeError, match="the time is over before sst2-n1000-adamix"):
        late.records([run("adamix")])


def test_a_run_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    """A process of Python takes longer than a hundredth of a second to import torch."""
    short = Workshop(folder=tmp_path, bases={"sst2": Path("base")}, jobs=1, deadline=time.monotonic() + 0.05)
    with pytest.raises(OutOfTimeError, match="the time is over in sst2-n1000-adamix"):
        short.records([run("adamix")])

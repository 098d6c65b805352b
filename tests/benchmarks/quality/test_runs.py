import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.runs import Budget, Workshop
from benchmarks.quality.worker import Worker
from benchmarks.support.errors import BenchmarkError, OutOfTimeError
from tests.benchmarks.quality.conftest import run

pytestmark = pytest.mark.usefixtures("named_files")


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


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (Budget(), "1000"),
        (Budget(scale=0.1), "100"),
        (Budget(shots=16), "K = 16"),
        (Budget(times=4), "1000, 4 x the passes"),
        (Budget(shots=16, times=2), "K = 16, 2 x the passes"),
    ],
)
def test_a_budget_is_named_after_its_examples_and_passes(budget: Budget, name: str) -> None:
    assert budget.name("sst2") == name


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


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Return a workshop of two runs at a time on eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return Workshop(folder=tmp_path / "runs", bases={"sst2": Path("base")}, jobs=2)


def test_a_run_is_carried_out_once_with_its_share_of_the_cores(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: dict[str, Any] = {}

    def carry_out(worker: Worker, folder: Path, *, seconds: float | None) -> None:
        order = json.loads((folder / "order.json").read_text())
        assert folder.name not in carried_out
        carried_out[folder.name] = (worker.threads, seconds, order["routes"], order["recipe"]["seed"])
        (folder / "record.json").write_text(json.dumps(order))

    monkeypatch.setattr(Worker, "carry_out", carry_out)
    first, second = run("adamix"), run("adapter", seed=3, routes=False)
    found = workshop.records([first, second, first])
    assert found.keys() == {first, second}
    assert found[second]["recipe"]["seed"] == 3
    assert carried_out == {first.name: (4, None, True, 0), second.name: (4, None, False, 3)}
    assert workshop.records([second]) == {second: found[second]}


def test_so_many_runs_are_under_way_as_there_are_workers(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two meet, and a third never joins them."""
    meet, at_work = threading.Barrier(2), set[Worker]()

    def carry_out(worker: Worker, folder: Path, *, seconds: float | None) -> None:
        assert worker not in at_work
        at_work.add(worker)
        meet.wait(timeout=10)
        assert len(at_work) == 2
        meet.wait(timeout=10)
        at_work.remove(worker)
        (folder / "record.json").write_text((folder / "order.json").read_text())

    monkeypatch.setattr(Worker, "carry_out", carry_out)
    assert len(workshop.records([run("adamix", seed=seed) for seed in range(4)])) == 4


def test_a_run_that_fails_is_an_error_and_ends_the_others(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def fail(_: Worker, folder: Path, *, seconds: float | None) -> str:
        begun.append(folder.name)
        return "RecipeError: base is missing"

    monkeypatch.setattr(Worker, "carry_out", fail)
    with pytest.raises(BenchmarkError, match=r"adamix-0\.001-fp32-seed0 failed: RecipeError: base is missing"):
        workshop.records([run("adamix", seed=seed) for seed in range(8)])
    assert 1 <= len(begun) <= 2, "those that wait for a worker are not begun"
    assert workshop.idle.qsize() == 2


def test_workers_end_with_the_workshop(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Worker] = []
    monkeypatch.setattr(Worker, "end", lambda worker: ended.append(worker))
    with workshop:
        assert not ended
    assert len(set(ended)) == 2


def test_no_run_begins_after_the_deadline(tmp_path: Path) -> None:
    late = Workshop(folder=tmp_path, bases={"sst2": Path("base")}, jobs=1, deadline=time.monotonic())
    with pytest.raises(OutOfTimeError, match="the time is over before sst2-n1000-adamix"):
        late.records([run("adamix")])


def test_a_run_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    """A process of Python takes longer than a hundredth of a second to import torch."""
    short = Workshop(folder=tmp_path, bases={"sst2": Path("base")}, jobs=1, deadline=time.monotonic() + 0.05)
    with pytest.raises(OutOfTimeError, match="the time is over in sst2-n1000-adamix"):
        short.records([run("adamix")])

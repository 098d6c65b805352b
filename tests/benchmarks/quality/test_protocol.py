import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import __main__ as command
from benchmarks.quality.__main__ import main
from benchmarks.quality.comparison import at_best_budgets, at_best_so_far, at_budget, comparisons_of, goals_of
from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.protocol import CONTROLS, METHODS, PASSES, STAGES, Stage, carry_out
from benchmarks.quality.results import Result, cells_of, read_results, rows_of, write_results
from benchmarks.quality.runs import Run
from benchmarks.support import data
from benchmarks.support.errors import BenchmarkError, OutOfTimeError

TEXT = Path("benchmarks/quality/protocol.md").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_text_is_there(method: str) -> None:
    assert f"| `{method}` |" in TEXT
    assert len(CLASSIFIERS[method].rates) == 4


def test_the_stages_cover_the_text() -> None:
    cells = {
        (task, passes, method, seed)
        for stage in STAGES
        for task in stage.tasks
        for passes in stage.passes
        for method in stage.methods
        for seed in stage.seeds
    }
    assert len(cells) == 2 * len(PASSES) * len(METHODS) * 10 + len(PASSES) * len(METHODS) * 5
    assert 0 not in {seed for *_, seed in cells}, "the seed of the search is not measured"


class Bench:
    """A workshop in which a rate of 3e-3 has the lowest validation loss and the worst test score."""

    jobs = 1

    def __init__(self) -> None:
        self.asked: list[Run] = []

    def records(self, runs: list[Run]) -> dict[Run, dict[str, Any]]:
        self.asked += runs
        return {
            run: {
                "loss": 0.1 if run.rate == 3e-3 else 0.5,
                "test_accuracy": 0.6 if run.rate == 3e-3 else 0.9,
                "test_loss": run.seed,
                "device": {"kind": "cpu"},
                "classes": {"calibration_error": 0.1},
                "routes": {"mean": 0.6, "ensemble": 0.625} if run.routes else {},
            }
            for run in runs
        }


def test_a_rate_is_chosen_by_validation_loss_with_its_own_seed() -> None:
    bench = Bench()
    stage = Stage(tasks=["sst2"], passes=[3], methods=["shares"], seeds=[3, 6])
    (results,) = carry_out(bench, [stage])  # type: ignore[arg-type]
    assert [(result.seed, result.rate, result.score) for result in results] == [(3, 3e-3, 60.0), (6, 3e-3, 60.0)]
    assert [result.routes for result in results] == [{"mean": 60.0, "ensemble": 62.5}, {}]
    assert [run.seed for run in bench.asked] == [0] * 4 + [3, 6]
    assert [run.tested for run in bench.asked] == [False] * 4 + [True] * 2
    assert all(run.budget.times == 0.5 and run.budget.by_loss for run in bench.asked)


def test_results_that_were_kept_are_not_run_again() -> None:
    """Without the runs' folders too: the results alone are in the repository."""
    bench = Bench()
    kept = [result("shares", 81.0, passes=3, seed=3), result("adapter", 79.0, passes=3, seed=3)]
    kept.append(result("adapter", 78.0, passes=3, seed=6))
    stage = Stage(tasks=["sst2"], passes=[3], methods=["shares", "adapter"], seeds=[3, 6])
    shares, adapter = carry_out(bench, [stage], kept)  # type: ignore[arg-type]
    assert [(run.method, run.seed, run.rate) for run in bench.asked] == [("shares", 6, 1e-3)]
    assert [(one.seed, one.score) for one in shares] == [(6, 90.0)]
    assert adapter == []


def test_what_was_finished_in_time_is_yielded_in_order() -> None:
    """Cells under way side by side; the second is late, and the third is not lost with it."""

    class Late(Bench):
        jobs = 9

        def records(self, runs: list[Run]) -> dict[Run, dict[str, Any]]:
            if runs[0].method == "adapter":
                raise OutOfTimeError("the time is over")
            return super().records(runs)

    stage = Stage(tasks=["sst2"], passes=[3], methods=["shares", "adapter", "adamix"], seeds=[3])
    found = carry_out(Late(), [stage])  # type: ignore[arg-type]
    assert [next(found)[0].method, next(found)[0].method] == ["shares", "adamix"]
    with pytest.raises(OutOfTimeError):
        next(found)


def result(
    method: str,
    score: float,
    *,
    task: str = "sst2",
    passes: int = 6,
    seed: int = 3,
    loss: float = 0.5,
    rate: float = 1e-3,
    device: str = "cpu",
) -> Result:
    return Result(
        task=task,
        passes=passes,
        method=method,
        seed=seed,
        device=device,
        rate=rate,
        score=score,
        test_loss=loss + 1,
        loss=loss,
        ece=loss / 10,
    )


def test_the_candidate_is_compared_with_the_strongest_control_by_seed() -> None:
    """Seeds 3 and 4: 2 and 4 points above adapter-swa, whose mean is above adapter's; full is no control."""
    results = [
        *(result("shares", score, seed=seed, loss=0.4) for seed, score in ((3, 82.0), (4, 86.0), (5, 99.0))),
        *(result("adapter-swa", score, seed=seed) for seed, score in ((3, 80.0), (4, 82.0))),
        *(result("adapter", 70.0, seed=seed) for seed in (3, 4)),
        *(result("full", 99.0, seed=seed) for seed in (3, 4)),
    ]
    found = at_budget(results, 6)
    assert found is not None
    assert (found.control, found.points, found.pairs) == ("adapter-swa", 3.0, 2)
    assert found.error == pytest.approx(math.sqrt(2) / math.sqrt(2))
    assert found.test_loss == pytest.approx(-0.1)
    assert found.ece == pytest.approx(-0.01)


def test_differences_are_told_by_task_and_over_tasks() -> None:
    """On SST-2 shares is 1 above adapter, on MRPC 2 above adapter-swa; over both 1.75 above adapter-swa."""
    results = [
        result("shares", 81.0),
        result("adapter", 80.0),
        result("adapter-swa", 79.5),
        result("shares", 72.0, task="mrpc"),
        result("adapter", 69.0, task="mrpc"),
        result("adapter-swa", 70.0, task="mrpc"),
        *(result("shares", 90.0, passes=passes, loss=0.4) for passes in (3, 12, 24)),
        *(result("adapter", 70.0, passes=passes, loss=0.6) for passes in (3, 12, 24)),
        *(result("shares", 60.0, task="mrpc", passes=passes, loss=0.6) for passes in (3, 12)),
    ]
    rows = comparisons_of(results)
    at_six = {row["task"]: (row["strongest control"], row["points"]) for row in rows if row["passes"] == "6"}
    assert at_six == {
        "sst2": ("adapter", "+1.00"),
        "mrpc": ("adapter-swa", "+2.00"),
        "mean of tasks": ("adapter-swa", "+1.75"),
    }
    best = {row["task"]: row["points"] for row in rows if row["passes"] == "best of each"}
    assert best == {"sst2": "+10.00"}, "on MRPC a budget is missing"
    assert comparisons_of([]) == []


def test_tasks_count_alike_whatever_their_scores() -> None:
    results = [
        *(result("shares", score, task=task) for task, score in (("sst2", 80.0), ("mrpc", 70.0))),
        *(result("adapter", score, task=task) for task, score in (("sst2", 81.0), ("mrpc", 67.0))),
        result("lora", 99.0),  # not measured on mrpc
    ]
    found = at_budget(results, 6)
    assert found is not None
    assert (found.control, found.points) == ("adapter", 1.0)
    assert math.isnan(found.error)


def test_each_method_is_taken_at_the_budget_with_its_lowest_validation_loss() -> None:
    results = [
        *(result("shares", 80.0, passes=passes, loss=0.5) for passes in (3, 6, 12)),
        result("shares", 84.0, passes=24, loss=0.3),
        result("adapter", 83.0, passes=6, loss=0.4),
        *(result("adapter", 90.0, passes=passes, loss=0.9) for passes in (3, 12, 24)),
        *(result("adapter-swa", 99.0, passes=passes, loss=0.1) for passes in (3, 6, 12)),
    ]
    found = at_best_budgets(results)
    assert found is not None
    assert found.points == pytest.approx(1.0)


def test_the_best_so_far_is_of_the_budgets_that_are_measured() -> None:
    """The candidate is best at 12 passes, adapter at 6; its 24 are more than the candidate was given."""
    ours, theirs = ((6, 80.0, 0.5), (12, 85.0, 0.3)), ((6, 83.0, 0.4), (12, 84.0, 0.6), (24, 99.0, 0.1))
    results = [
        *(result("shares", score, passes=passes, loss=loss) for passes, score, loss in ours),
        *(result("adapter", score, passes=passes, loss=loss) for passes, score, loss in theirs),
    ]
    found = at_best_so_far(results)
    assert found is not None
    assert (found.control, found.points) == ("adapter", 2.0)
    (told,) = [row["points"] for row in comparisons_of(results) if row["passes"] == "best so far"]
    assert told == "+2.00"
    stronger = at_best_so_far([*results, result("adapter-swa", 84.5, passes=12)])
    assert stronger is not None
    assert (stronger.control, stronger.points) == ("adapter-swa", 0.5), "though it lacks 6 passes"
    assert at_best_so_far([]) is None
    assert at_best_so_far([one for one in results if one.passes == 12]) is None, "one budget is no choice"
    every = [result(method, 80.0, passes=passes) for method in ("shares", "adapter") for passes in PASSES]
    assert at_best_so_far(every) is None, "that is the protocol's own comparison"


def test_what_was_not_run_is_not_measured() -> None:
    assert at_budget([], 6) is None
    assert at_budget([result("shares", 1.0)], 6) is None
    assert {goal.value for goal in goals_of([])} == {None}
    assert not any(goal.met for goal in goals_of([]))


def test_a_table_has_a_row_a_cell() -> None:
    rows = rows_of([result("adapter", 80.0, seed=seed) for seed in (3, 4)] + [result("shares", 81.0)])
    assert [(row["method"], row["mean"], row["seeds"]) for row in rows] == [("adapter", 80.0, 2), ("shares", 81.0, 1)]


def test_other_ways_to_run_a_mixture_are_told_as_points_above_its_mean() -> None:
    routes = {"mean": 80.0, "ensemble": 80.5, "first module": 79.0, "random modules": 78.0}
    routed = [replace(result("shares", 80.0, seed=seed), routes=routes) for seed in (3, 4)]
    (row,) = rows_of([*routed, result("shares", 90.0, seed=5)])
    assert (row["ensemble"], row["first module"], row["random modules"]) == (0.5, -1.0, -2.0)
    (row,) = rows_of([result("adapter", 80.0)])
    assert row["ensemble"] is None


def test_a_seed_that_ran_on_two_devices_counts_once_with_its_mean(tmp_path: Path) -> None:
    routes = {"mean": 80.0, "ensemble": 81.0, "first module": 79.0, "random modules": 78.0}
    on_gpu = result("shares", 84.0, seed=3, loss=0.3, rate=3e-3, device="cuda")
    both = [
        replace(result("shares", 80.0, seed=3, loss=0.5), routes=routes),
        replace(on_gpu, routes=dict.fromkeys(routes, 84.0)),
    ]
    results = [
        *reversed(both),
        result("shares", 83.0, seed=4),
        result("adapter", 80.0, seed=3),
        result("adapter", 80.0, seed=4),
    ]
    cell = cells_of(results)["sst2", 6, "shares"]
    assert {seed: one.score for seed, one in cell.items()} == {3: 82.0, 4: 83.0}
    assert (cell[3].loss, cell[3].test_loss, cell[3].ece) == pytest.approx((0.4, 1.4, 0.04))
    assert cell[3].routes == {"mean": 82.0, "ensemble": 82.5, "first module": 81.5, "random modules": 81.0}
    found = at_budget(results, 6)
    assert found is not None
    assert (found.points, found.pairs) == (2.5, 2)
    row = next(row for row in rows_of(results) if row["method"] == "shares")
    assert (row["mean"], row["seeds"], row["rate"]) == (82.5, 2, "0.001, 0.003")
    file = tmp_path / "results.json"
    assert len(write_results(results, file)) == len(results)
    assert read_results(file) == sorted(results)


def test_a_cell_goes_on_with_the_rate_that_it_began_with() -> None:
    bench = Bench()
    kept = [result("shares", 80.0, passes=3, rate=6e-3), result("shares", 81.0, passes=3, rate=1e-3, device="cuda")]
    (new,) = carry_out(bench, [Stage(tasks=["sst2"], passes=[3], methods=["shares"], seeds=[3, 4])], kept)  # type: ignore[arg-type]
    assert [(one.seed, one.rate) for one in new] == [(4, 6e-3)]


def test_controls_have_the_candidates_size() -> None:
    assert all(CLASSIFIERS[name].fields.get("method", "adamix") == "adamix" for name in CONTROLS)
    assert all(CLASSIFIERS[name].fields["num_modules"] == 1 for name in CONTROLS)


def test_results_are_kept_once_each(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert read_results(file) == []
    write_results([result("shares", 80.0), result("adapter", 79.0)], file)
    kept = write_results([*read_results(file), result("shares", 81.0)], file)
    assert [(one.method, one.score) for one in kept] == [("adapter", 79.0), ("shares", 81.0)]
    assert read_results(file) == kept
    file.write_text('[{"task": "sst2"}]')
    with pytest.raises(BenchmarkError, match="holds no results of the protocol"):
        read_results(file)


@pytest.mark.parametrize("asked", [["--report"], ["--protocol", "--report"]])
def test_a_report_says_what_the_kept_results_say(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    again = replace(result("shares", 80.0, seed=3), device="cuda")
    runs = [result(method, 80.0, seed=seed) for method in ("shares", "adapter") for seed in (3, 4)]
    write_results([*runs, again], file)
    main([*asked, "--results", str(file), "--json", "-"])
    page = file.with_suffix(".md").read_text()
    assert "5 measured runs" in page
    assert "\n4 runs differ in task" in page
    assert "so far: `split`, `adamix`, `adapter-views`," in page
    assert re.search(r"\| +sst2 \| +6 \| +adapter \| +\+0\.00 \|", page)
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["seeds"]) for row in report["rows"]] == [("adapter", 2), ("shares", 2)]
    found = {goal["what"]: (goal["value"], goal["met"]) for goal in report["goals"]}
    assert found["points at 6 passes, against adapter"] == (0.0, True)
    assert found["points at the best budgets"] == (None, False)
    assert found["points at 24 passes"] == (None, False)


def test_the_protocol_goes_on_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [[result("shares", 80.0)], [result("adapter", 79.0)]]

    def some(workshop: object, kept: object) -> Iterator[list[Result]]:
        yield from cells
        raise OutOfTimeError("the time is over before sst2-x")

    monkeypatch.setattr(command, "carry_out", some)
    monkeypatch.setattr(data, "sample_model", lambda name: Path(name))
    file = tmp_path / "results.json"
    main(["--protocol", "--results", str(file), "--runs", str(tmp_path), "--json", "-"])
    report = json.loads(capsys.readouterr().out)
    assert len(read_results(file)) == 2
    assert report["absent"][0]["reason"].startswith("the time is over before sst2-x; repeat the command")

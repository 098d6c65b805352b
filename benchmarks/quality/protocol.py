"""The comparison of `protocol.md`: its runs in their order, and what they say."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from adamix_train.artifacts.atomic_write import write_json
from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Goal, Row

CANDIDATE = "shares"
MIXTURES = ("shares", "split", "adamix")
CONTROLS = (
    "adapter-views",
    "adapter-late-views",
    "adapter",
    "adapter-views-dropout",
    "adapter-swa",
    "adapter-ema",
    "adapter-stopped",
    "lora",
    "wide-lora",
)
"""Methods that ship as many weights as the candidate."""
METHODS = (*MIXTURES, *CONTROLS, "full")
FIRST = ("shares", "adapter-views", "adapter-late-views", "adapter", "adamix")
PASSES = (3, 6, 12, 24)
EARLY, LATE = range(3, 8), range(8, 13)
"""Seeds."""
WAYS = ("ensemble", "first module", "random modules")
"""Ways to run a trained mixture that are compared with its mean."""
SEARCHED_WITH = 0
"""Seed of the search for a rate."""
ROUTED = range(3, 6)
"""Seeds whose mixtures are run in other ways than by their mean as well."""
POINTS, ERROR = 0.5, 0.25
"""Goals: points above the strongest control at the best budgets, and their standard error."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Cells that are carried out together; a cell is a task, a number of passes and a method."""

    tasks: Sequence[str]
    passes: Sequence[int]
    methods: Sequence[str]
    seeds: Sequence[int]


BOTH = ("sst2", "mrpc")
STAGES = (
    Stage(tasks=BOTH, passes=(6, 12), methods=FIRST, seeds=EARLY),
    Stage(tasks=BOTH, passes=(6, 12), methods=[name for name in METHODS if name not in FIRST], seeds=EARLY),
    Stage(tasks=BOTH, passes=(3, 24), methods=METHODS, seeds=EARLY),
    Stage(tasks=BOTH, passes=PASSES, methods=METHODS, seeds=LATE),
    Stage(tasks=("cola",), passes=PASSES, methods=METHODS, seeds=EARLY),
)


@dataclass(frozen=True, order=True, kw_only=True)
class Result:
    """Settings and measurements of a run."""

    task: str
    passes: int
    method: str
    seed: int
    rate: float
    score: float
    """The task's metric on its test data, in points."""
    test_loss: float
    loss: float
    """On the validation data."""
    ece: float
    """Expected calibration error on the test data, of probabilities in [0, 1]."""
    routes: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The score by other ways to run a mixture than by its mean, in points."""


def run_of(task: str, passes: int, method: str, rate: float, seed: int) -> Run:
    """Return a run of the protocol; the search for a rate sees no test data."""
    return Run(
        subject=task,
        method=method,
        rate=rate,
        seed=seed,
        budget=Budget(times=passes / SUBJECTS[task].passes, by_loss=True),
        precision="bf16",
        routes=seed in ROUTED,
        tested=seed != SEARCHED_WITH,
    )


def carry_out(workshop: Workshop, stages: Sequence[Stage] = STAGES) -> Iterator[list[Result]]:
    """Yield the results of each cell, in the order of the stages; runs that have a record are not repeated.

    Raises:
        OutOfTimeError: The workshop's deadline has passed.
    """
    for stage in stages:
        for task in stage.tasks:
            for passes in stage.passes:
                for method in stage.methods:
                    yield _cell(workshop, task, passes, method, stage.seeds)


def _cell(workshop: Workshop, task: str, passes: int, method: str, seeds: Sequence[int]) -> list[Result]:
    """Search the rate by validation loss, and return the results of the seeds at the best."""
    tried = [run_of(task, passes, method, rate, SEARCHED_WITH) for rate in CLASSIFIERS[method].rates]
    found = workshop.records(tried)
    rate = min(tried, key=lambda run: float(found[run]["loss"])).rate
    wanted = [run_of(task, passes, method, rate, seed) for seed in seeds]
    records = workshop.records(wanted)
    return [result_of(run, passes, records[run]) for run in wanted]


def result_of(run: Run, passes: int, record: Mapping[str, Any]) -> Result:
    """Return what is kept of a record."""
    subject = SUBJECTS[run.subject]
    return Result(
        task=run.subject,
        passes=passes,
        method=run.method,
        seed=run.seed,
        rate=run.rate,
        score=subject.scale * float(record[f"test_{subject.metric}"]),
        test_loss=float(record["test_loss"]),
        loss=float(record["loss"]),
        ece=float(record["classes"]["calibration_error"]),
        routes={way: subject.scale * value for way, value in record["routes"].items()},
    )


def read_results(file: Path) -> list[Result]:
    """Return the results that were kept; none if there is no file.

    Raises:
        BenchmarkError: The file holds something else.
    """
    if not file.is_file():
        return []
    try:
        return [Result(**fields) for fields in json.loads(file.read_text("utf-8"))]
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"{file} holds no results of the protocol: {error}") from error


def write_results(results: Sequence[Result], file: Path) -> list[Result]:
    """Write results, each run once, the newest of it, and return them in their order."""
    newest = {(one.task, one.passes, one.method, one.seed): one for one in results}
    kept = sorted(newest.values())
    write_json(file, [asdict(one) for one in kept])
    return kept


Cells = dict[tuple[str, int, str], dict[int, Result]]
"""Task, passes and method → results by seed."""


def cells_of(results: Sequence[Result]) -> Cells:
    """Return the results by cell."""
    cells: Cells = {}
    for result in results:
        cells.setdefault((result.task, result.passes, result.method), {})[result.seed] = result
    return cells


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Return the table: means and deviations by cell."""
    return [
        {
            "task": task,
            "passes": passes,
            "method": method,
            "mean": mean([result.score for result in cell.values()]),
            "deviation": _deviation([result.score for result in cell.values()]),
            "test loss": round(mean([result.test_loss for result in cell.values()]), 4),
            "ece": round(mean([result.ece for result in cell.values()]), 4),
            **_ways_of(list(cell.values())),
            "seeds": len(cell),
            "rate": f"{next(iter(cell.values())).rate:g}",
        }
        for (task, passes, method), cell in sorted(cells_of(results).items())
    ]


def _ways_of(results: Sequence[Result]) -> Row:
    """Return the points that other ways to run a mixture are above its mean, over the seeds that have them."""
    routed = [result.routes for result in results if result.routes]
    if not routed:
        return dict.fromkeys(WAYS)
    return {way: round(mean([routes[way] - routes["mean"] for routes in routed]), 2) for way in WAYS}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The candidate against the strongest control."""

    control: str
    points: float
    error: float
    """Standard error; NaN of one pair."""
    test_loss: float
    """Difference of the test losses; below 0 the candidate's is lower."""
    ece: float
    """Difference of the expected calibration errors, likewise."""
    pairs: int


def at_budget(results: Sequence[Result], passes: int) -> Difference | None:
    """Return the candidate against the control with the highest mean over tasks, at a number of passes, paired by seed.

    None if a task lacks the candidate or all controls.
    """
    return _strongest(cells_of(results), {method: dict.fromkeys(_tasks(results), passes) for method in METHODS})


def at_best_budgets(results: Sequence[Result]) -> Difference | None:
    """Return the same with every method at the passes with its lowest mean validation loss, task by task."""
    cells, best = cells_of(results), dict[str, dict[str, int]]()
    for method in METHODS:
        for task in _tasks(results):
            losses = {
                passes: mean([result.loss for result in cells[task, passes, method].values()])
                for passes in PASSES
                if (task, passes, method) in cells
            }
            if losses:
                best.setdefault(method, {})[task] = min(losses, key=lambda passes: losses[passes])
    return _strongest(cells, best)


def goals_of(results: Sequence[Result]) -> list[Goal]:
    """Return the protocol's goals; one without its runs is not measured."""
    best = at_best_budgets(results)
    named = f", against {best.control}" if best else ""
    goals = [
        Goal(what=f"points at the best budgets{named}", value=best.points if best else None, goal=POINTS),
        Goal(what="their standard error", value=best.error if best else None, goal=ERROR, better="lower"),
    ]
    for passes in PASSES:
        found = at_budget(results, passes)
        named = f", against {found.control}" if found else ""
        goals.append(Goal(what=f"points at {passes} passes{named}", value=found.points if found else None, goal=-0.3))
        loss = found.test_loss if found else None
        goals.append(Goal(what=f"test loss at {passes} passes{named}", value=loss, goal=0.0, better="lower"))
    return goals


def _strongest(cells: Cells, budgets: Mapping[str, Mapping[str, int]]) -> Difference | None:
    tasks = list(budgets.get(CANDIDATE, {}))
    complete = {
        method: [cells[task, budgets[method][task], method] for task in tasks]
        for method in (CANDIDATE, *CONTROLS)
        if method in budgets
        and all(task in budgets[method] and (task, budgets[method][task], method) in cells for task in tasks)
    }
    ours = complete.pop(CANDIDATE, None)
    if not tasks or ours is None or not complete:
        return None
    control = max(
        complete,
        key=lambda name: mean([mean([one.score for one in cell.values()]) for cell in complete[name]]),
    )
    seeds = set.intersection(*(set(cell) for cell in (*ours, *complete[control])))
    if not seeds:
        return None
    scores = [_paired(ours, complete[control], seed, "score") for seed in sorted(seeds)]
    losses = [_paired(ours, complete[control], seed, "test_loss") for seed in sorted(seeds)]
    errors = [_paired(ours, complete[control], seed, "ece") for seed in sorted(seeds)]
    return Difference(
        control=control,
        points=mean(scores),
        error=_deviation(scores) / math.sqrt(len(scores)),
        test_loss=mean(losses),
        ece=mean(errors),
        pairs=len(scores),
    )


def _paired(ours: Sequence[Mapping[int, Result]], others: Sequence[Mapping[int, Result]], seed: int, of: str) -> float:
    """Return the mean over tasks of the difference with one seed."""
    return mean([getattr(one[seed], of) - getattr(other[seed], of) for one, other in zip(ours, others, strict=True)])


def _tasks(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.task for result in results))


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan

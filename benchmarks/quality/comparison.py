"""The candidate against the strongest of its controls."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

from benchmarks.quality.protocol import CANDIDATE, CONTROLS, METHODS, PASSES
from benchmarks.quality.results import Cells, Result, cells_of, deviation
from benchmarks.support.report import Goal, Row

POINTS, ERROR = 0.5, 0.25
"""Goals: points above the strongest control at the best budgets, and their standard error."""


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
    """Return the same with every method at the passes with its lowest mean validation loss, task by task.

    A method has a best budget of a task once all of them are measured; None if the candidate lacks that of a task.
    """
    return _at_best_of(results, dict.fromkeys(_tasks(results), PASSES), least=len(PASSES))


def at_best_so_far(results: Sequence[Result]) -> Difference | None:
    """Return the same with the best of the budgets that are measured, a control with those that it has of them.

    None if these are all budgets, or if the candidate has fewer than two of a task.
    """
    cells = cells_of(results)
    measured = {task: [passes for passes in PASSES if (task, passes, CANDIDATE) in cells] for task in _tasks(results)}
    if min(map(len, measured.values()), default=0) < 2 or all(len(some) == len(PASSES) for some in measured.values()):
        return None
    return _at_best_of(results, measured, least=1)


def _at_best_of(results: Sequence[Result], budgets: Mapping[str, Sequence[int]], *, least: int) -> Difference | None:
    """Return the comparison at best budgets among those of each task, of which a method has at least so many."""
    cells, best = cells_of(results), dict[str, dict[str, int]]()
    for method in METHODS:
        for task, some in budgets.items():
            losses = {
                passes: mean([result.loss for result in cells[task, passes, method].values()])
                for passes in some
                if (task, passes, method) in cells
            }
            if len(losses) >= least:
                best.setdefault(method, {})[task] = min(losses, key=lambda passes: losses[passes])
    whole = len(best.get(CANDIDATE, {})) == len(budgets)
    return _strongest(cells, best) if whole else None


def comparisons_of(results: Sequence[Result]) -> list[Row]:
    """Return the differences that are measured: by task and over all tasks, at each budget and at the best ones."""
    tasks = _tasks(results)
    parts = {task: [result for result in results if result.task == task] for task in tasks}
    if len(tasks) > 1:
        parts["mean of tasks"] = list(results)
    budgets: dict[str, Callable[[Sequence[Result]], Difference | None]] = {
        **{str(passes): partial(at_budget, passes=passes) for passes in PASSES},
        "best of each": at_best_budgets,
        "best so far": at_best_so_far,
    }
    found = {(name, passes): compare(part) for name, part in parts.items() for passes, compare in budgets.items()}
    return [
        {
            "task": name,
            "passes": passes,
            "strongest control": one.control,
            "points": f"{one.points:+.2f}",
            "standard error": f"{one.error:.2f}",
            "test loss": f"{one.test_loss:+.3f}",
            "ece": f"{one.ece:+.3f}",
            "pairs": one.pairs,
        }
        for (name, passes), one in found.items()
        if one
    ]


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
        error=deviation(scores) / math.sqrt(len(scores)),
        test_loss=mean(losses),
        ece=mean(errors),
        pairs=len(scores),
    )


def _paired(ours: Sequence[Mapping[int, Result]], others: Sequence[Mapping[int, Result]], seed: int, of: str) -> float:
    """Return the mean over tasks of the difference with one seed."""
    return mean([getattr(one[seed], of) - getattr(other[seed], of) for one, other in zip(ours, others, strict=True)])


def _tasks(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.task for result in results))

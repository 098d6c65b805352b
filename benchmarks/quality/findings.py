"""The findings of a grid: a table of means and deviations, and the goals."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from adamix_train.tasks.table import TASKS
from benchmarks.quality.grid import Grid, Outcome
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.report import Absent, Findings, Goal, Row

AGAINST = {
    "adamix": {"adapter": 0.5, "adapter-consistency": 0.0, "adamix-no-consistency": 0.0, "full": 0.0},
    "adamix-lora": {"lora": 0.5, "full": 0.0},
}
"""Points by which one of our methods should be above others, on the mean over tasks and seeds."""


def findings_of(grid: Grid, outcome: Outcome, versions: dict[str, str]) -> Findings:
    """Return the table and the goals of a grid."""
    goals = [
        goal
        for ours, others in AGAINST.items()
        for method, points in others.items()
        if (goal := goal_against(ours, method, points, grid, outcome))
    ]
    worst = min(goals, key=lambda goal: (goal.value or 0.0) - goal.goal, default=None)
    return Findings(goals=goals, rows=rows_of(outcome), versions=versions, worst=str(worst), absent=absent_of(outcome))


def absent_of(outcome: Outcome) -> list[Absent]:
    """Return the methods for which there was no time."""
    reason = "the time was over; repeat the command, which goes on with the runs that are left"
    return [Absent(peer=f"{method} on {subject}", reason=reason) for subject, method in outcome.left]


def points_of(subject: str, records: Sequence[dict[str, Any]]) -> list[float]:
    """Return the test metric of each record, in points."""
    task = SUBJECTS[subject]
    return [task.scale * float(record[f"test_{task.metric}"]) for record in records]


def rows_of(outcome: Outcome) -> list[Row]:
    """Return a row for every task, budget and method, and one for every other way to run a trained mixture."""
    rows = []
    for (subject, budget, method), records in outcome.records.items():
        rate, parameters = rate_of(outcome, subject, method), records[0]["trained_parameters"]
        data = budget.name(subject)
        row = _row(subject, data, method, rate, parameters, points_of(subject, records))
        rows.append(row | {"others": other_metrics(subject, records)})
        for way in [way for way in records[0]["routes"] if way != "mean"]:
            values = [SUBJECTS[subject].scale * record["routes"][way] for record in records]
            rows.append(_row(subject, data, f"{method}: {way}", rate, parameters, values))
    return rows


def rate_of(outcome: Outcome, subject: str, method: str) -> str:
    """Return the learning rate that was found; * marks the lowest or highest that was tried."""
    rate, tried = outcome.rates[subject, method], SUBJECTS[subject].methods[method].rates
    return f"{rate:g}" + ("*" if rate in (tried[0], tried[-1]) else "")


def other_metrics(subject: str, records: Sequence[dict[str, Any]]) -> str:
    """Return the means of the task's metrics besides the one of the table."""
    task = SUBJECTS[subject]
    names = [name for name in TASKS[task.task].metrics if name != task.metric and f"test_{name}" in records[0]]
    return ", ".join(f"{name} {statistics.mean(record[f'test_{name}'] for record in records):.3f}" for name in names)


def goal_against(ours: str, method: str, points: float, grid: Grid, outcome: Outcome) -> Goal | None:
    """Return how far one method is above another on the tasks' own budgets, paired by seed; None if one was not run.

    Subjects on which there was no time for both are left out.
    """
    differences = [
        one - other
        for subject in grid.subjects
        if all((subject, grid.own, name) in outcome.records for name in (method, ours))
        for one, other in zip(
            points_of(subject, outcome.records[subject, grid.own, ours]),
            points_of(subject, outcome.records[subject, grid.own, method]),
            strict=True,
        )
    ]
    if not differences:
        return None
    what = f"{ours} above {method}, points, mean of {len(differences)} pairs"
    if len(differences) > 1:
        what += f" (standard error {statistics.stdev(differences) / math.sqrt(len(differences)):.2f})"
    return Goal(what=what, value=statistics.mean(differences), goal=points)


def _row(subject: str, data: str, method: str, rate: str, parameters: int, values: Sequence[float]) -> Row:
    return {
        "task": subject,
        "examples": data,
        "method": method,
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
        "seeds": " ".join(f"{value:.1f}" for value in values),
        "rate": rate,
        "parameters": parameters,
        "others": "",
    }

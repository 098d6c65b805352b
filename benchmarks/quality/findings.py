"""What the grid says: a table of means and deviations, and the goals."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from adamix_train.tasks.table import TASKS
from benchmarks.quality.grid import Grid, Outcome
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.report import Findings, Goal, Row

AGAINST = {
    "adapter": 0.5,
    "adapter-consistency": 0.0,
    "full": 0.0,
}
"""By how many points AdaMix is to be above a method, on the mean over tasks and seeds."""
OURS = "adamix"


def findings_of(grid: Grid, outcome: Outcome, versions: dict[str, str]) -> Findings:
    """Return the table and the goals of a grid."""
    goals = [goal for method, points in AGAINST.items() if (goal := goal_against(method, points, grid, outcome))]
    worst = min(goals, key=lambda goal: goal.value if goal.value is not None else -math.inf, default=None)
    return Findings(goals=goals, rows=rows_of(outcome), versions=versions, worst=str(worst))


def points_of(subject: str, records: Sequence[dict[str, Any]]) -> list[float]:
    """Return the test metric of each record, in points."""
    task = SUBJECTS[subject]
    return [task.scale * float(record[f"test_{task.metric}"]) for record in records]


def rows_of(outcome: Outcome) -> list[Row]:
    """Return a row for every task, budget and method, and one for every other way to run a trained mixture."""
    rows = []
    for (subject, budget, method), records in outcome.records.items():
        rate, parameters = outcome.rates[subject, method], records[0]["trained_parameters"]
        data = budget.name(subject)
        row = _row(subject, data, method, rate, parameters, points_of(subject, records))
        rows.append(row | {"others": other_metrics(subject, records)})
        for way in [way for way in records[0]["routes"] if way != "mean"]:
            values = [SUBJECTS[subject].scale * record["routes"][way] for record in records]
            rows.append(_row(subject, data, f"{method}: {way}", rate, parameters, values))
    return rows


def other_metrics(subject: str, records: Sequence[dict[str, Any]]) -> str:
    """Return the means of the task's metrics besides the one of the table."""
    task = SUBJECTS[subject]
    names = [name for name in TASKS[task.task].metrics if name != task.metric and f"test_{name}" in records[0]]
    return ", ".join(f"{name} {statistics.mean(record[f'test_{name}'] for record in records):.3f}" for name in names)


def goal_against(method: str, points: float, grid: Grid, outcome: Outcome) -> Goal | None:
    """Return how far AdaMix is above a method on the tasks' own budgets, paired by seed; None if one was not run."""
    differences = [
        ours - theirs
        for subject in grid.subjects
        if {method, OURS} <= set(grid.methods_of(subject))
        for ours, theirs in zip(
            points_of(subject, outcome.records[subject, grid.own, OURS]),
            points_of(subject, outcome.records[subject, grid.own, method]),
            strict=True,
        )
    ]
    if not differences:
        return None
    what = f"AdaMix above {method}, points, mean of {len(differences)} pairs"
    if len(differences) > 1:
        what += f" (standard error {statistics.stdev(differences) / math.sqrt(len(differences)):.2f})"
    return Goal(what=what, value=statistics.mean(differences), goal=points)


def _row(subject: str, data: str, method: str, rate: float, parameters: int, values: Sequence[float]) -> Row:
    return {
        "task": subject,
        "examples": data,
        "method": method,
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
        "seeds": " ".join(f"{value:.1f}" for value in values),
        "rate": f"{rate:g}",
        "parameters": parameters,
        "others": "",
    }

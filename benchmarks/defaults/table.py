"""The table: the defaults' scores by those of the grid."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.defaults.results import Result
from benchmarks.defaults.sets import SETS
from benchmarks.defaults.trainings import Training
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal, Row

PACKAGES = ("torch", "transformers", "peft", "accelerate")
SHARE = 0.98
"""Goal: the defaults' score by that of the best setting."""


def row_of(name: str, results: Mapping[Training, Result]) -> Row:
    """Return the table's row: the mean over seeds of the defaults, and of the grid's best setting."""
    by_default = [result for run, result in results.items() if run.setting is None]
    scores: dict[tuple[float, int], list[float]] = {}
    for run, result in results.items():
        if run.setting is not None:
            scores.setdefault(run.setting, []).append(result.score)
    means = {setting: statistics.mean(values) for setting, values in scores.items()}
    tuned = statistics.mean(_tuned_score(results, seed) for seed in {run.seed for run in results})
    default = statistics.mean(result.score for result in by_default)
    best = max(means, key=lambda setting: means[setting])
    return {
        "set": name,
        "rows": by_default[0].rows,
        "metric": SETS[name].metric,
        "defaults": round(default, 4),
        "best": round(means[best], 4),
        "of best": round(default / means[best], 4),
        "tuned": round(tuned, 4),
        "of tuned": round(default / tuned, 4),
        "median of grid": round(statistics.median(means.values()), 4),
        "best setting": f"rate {best[0]:g}, {best[1]} steps",
        "default setting": f"rate {by_default[0].settings['learning_rate']:.2g}, {by_default[0].steps} steps",
        "seeds": len(by_default),
    }


def _tuned_score(results: Mapping[Training, Result], seed: int) -> float:
    """Return the test score of the setting that is best on validation data with a seed; the loss breaks ties."""
    tried = [result for run, result in results.items() if run.setting is not None and run.seed == seed]
    return max(tried, key=lambda result: (result.validation or 0.0, -result.loss)).score


def findings_of(rows: Sequence[Row], absent: Sequence[Absent], *others: Goal) -> Findings:
    """Return the findings: a goal for every set, and others."""
    goals = [
        Goal(what=f"{row['set']}, defaults by the grid's best", value=float(str(row["of best"])), goal=SHARE)
        for row in rows
    ]
    worst = min(goals, key=lambda goal: goal.value or 0.0, default=None)
    return Findings(goals=[*goals, *others], rows=rows, versions=versions_of(PACKAGES), worst=str(worst), absent=absent)

"""The table: the defaults' scores by those of the grid."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.defaults.sets import SETS
from benchmarks.defaults.trainings import Training
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal, Row

PACKAGES = ("torch", "transformers", "peft", "accelerate")
SHARE = 0.98
"""Goal: the defaults' score by that of the best setting."""


def row_of(name: str, records: Mapping[Training, dict[str, Any]]) -> Row:
    """Return the table's row: the mean over seeds of the defaults, and of the grid's best setting."""
    metric = f"test_{SETS[name].metric}"
    default_scores = [float(record[metric]) for run, record in records.items() if run.setting is None]
    scores: dict[tuple[float, int], list[float]] = {}
    for run, record in records.items():
        if run.setting is not None:
            scores.setdefault(run.setting, []).append(float(record[metric]))
    means = {setting: statistics.mean(values) for setting, values in scores.items()}
    tuned = statistics.mean(_tuned_score(name, records, seed) for seed in {run.seed for run in records})
    default, best = statistics.mean(default_scores), max(means, key=lambda setting: means[setting])
    record = next(record for run, record in records.items() if run.setting is None)
    return {
        "set": name,
        "rows": record["train_examples"],
        "metric": SETS[name].metric,
        "defaults": round(default, 4),
        "best": round(means[best], 4),
        "of best": round(default / means[best], 4),
        "tuned": round(tuned, 4),
        "of tuned": round(default / tuned, 4),
        "median of grid": round(statistics.median(means.values()), 4),
        "best setting": f"rate {best[0]:g}, {best[1]} steps",
        "default setting": f"rate {record['settings']['learning_rate']:.2g}, {record['steps']} steps",
        "seeds": len(default_scores),
    }


def _tuned_score(name: str, records: Mapping[Training, dict[str, Any]], seed: int) -> float:
    """Return the test score of the setting that is best on validation data with a seed; the loss breaks ties."""
    metric = SETS[name].metric
    tried = [record for run, record in records.items() if run.setting is not None and run.seed == seed]
    picked = max(tried, key=lambda record: (float(record.get(metric, 0.0)), -float(record["loss"])))
    return float(picked[f"test_{metric}"])


def findings_of(rows: Sequence[Row], absent: Sequence[Absent]) -> Findings:
    """Return the findings: a goal for every set."""
    goals = [
        Goal(what=f"{row['set']}, defaults by the grid's best", value=float(str(row["of best"])), goal=SHARE)
        for row in rows
    ]
    worst = min(goals, key=lambda goal: goal.value or 0.0, default=None)
    return Findings(goals=goals, rows=rows, versions=versions_of(PACKAGES), worst=str(worst), absent=absent)

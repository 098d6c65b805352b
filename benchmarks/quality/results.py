"""Results of the protocol's runs, the file that keeps them, and their table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from adamix_train.artifacts.atomic_write import write_json
from benchmarks.quality.runs import Run
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Row

WAYS = ("ensemble", "first module", "random modules")
"""Ways to run a trained mixture that are compared with its mean."""


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
            "deviation": deviation([result.score for result in cell.values()]),
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


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; NaN of one value."""
    return stdev(values) if len(values) > 1 else math.nan

"""Results of the protocol's runs, the file that keeps them, and their table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from adamix_train.artifacts.atomic_write import write_json
from benchmarks.quality.runs import Run
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.kept import read_kept
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
    device: str = "cpu"
    """Kind of device that it was trained on; another draws other random numbers from the same seed."""
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
        device=record["device"]["kind"],
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
    return read_kept(file, Result, what="the protocol")


def write_results(results: Sequence[Result], file: Path) -> list[Result]:
    """Write results, each run once a device, the newest of it, and return them in their order."""
    newest = {(one.task, one.passes, one.method, one.seed, one.device): one for one in results}
    kept = sorted(newest.values())
    write_json(file, [asdict(one) for one in kept])
    return kept


Cells = dict[tuple[str, int, str], dict[int, Result]]
"""Task, passes and method → results by seed."""


def cells_of(results: Sequence[Result]) -> Cells:
    """Return the results by cell; a seed that ran on several devices has the mean of its results."""
    runs: dict[tuple[str, int, str], dict[int, list[Result]]] = {}
    for result in results:
        runs.setdefault((result.task, result.passes, result.method), {}).setdefault(result.seed, []).append(result)
    return {cell: {seed: _mean_of(sorted(found)) for seed, found in seeds.items()} for cell, seeds in runs.items()}


def _mean_of(runs: Sequence[Result]) -> Result:
    """Return the mean of a seed's runs, with the rate of the first."""
    if len(runs) == 1:
        return runs[0]
    routed = [one.routes for one in runs if one.routes]
    return replace(
        runs[0],
        device=", ".join(one.device for one in runs),
        score=mean([one.score for one in runs]),
        test_loss=mean([one.test_loss for one in runs]),
        loss=mean([one.loss for one in runs]),
        ece=mean([one.ece for one in runs]),
        routes={way: mean([routes[way] for routes in routed]) for way in (routed[0] if routed else {})},
    )


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Return the table: means and deviations by cell."""
    rates: dict[tuple[str, int, str], dict[str, float]] = {}
    for one in sorted(results):
        rates.setdefault((one.task, one.passes, one.method), {})[one.device] = one.rate
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
            "rate": ", ".join(f"{rate:g}" for rate in dict.fromkeys(rates[task, passes, method].values())),
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

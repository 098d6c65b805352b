"""The runs of `protocol.md`, in their order."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.results import Result, cells_of, result_of
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.errors import OutOfTimeError

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
SEARCHED_WITH = 0
"""Seed of the search for a rate."""
RUNS_OF_A_CELL = 3
"""Runs of a cell that are under way at least, most of the time."""
ROUTED = range(3, 6)
"""Seeds whose mixtures are run in other ways than by their mean as well."""


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


def carry_out(
    workshop: Workshop, stages: Sequence[Stage] = STAGES, kept: Sequence[Result] = ()
) -> Iterator[list[Result]]:
    """Yield what is new of each cell, in the order of the stages; so many are under way that all jobs are busy.

    A seed that is among the kept results is not run again, whatever device it ran on, and a run with a record in the
    workshop is not repeated. The rate of a cell is that of its kept results.

    Raises:
        OutOfTimeError: The workshop's deadline has passed; the cells that were finished have been yielded.
    """
    cells = cells_of(kept)
    wanted = [
        (task, passes, method, stage.seeds)
        for stage in stages
        for task in stage.tasks
        for passes in stage.passes
        for method in stage.methods
    ]
    late: OutOfTimeError | None = None
    pool = ThreadPoolExecutor(math.ceil(workshop.jobs / RUNS_OF_A_CELL))
    try:
        under_way = [
            pool.submit(_cell, workshop, task, passes, method, seeds, cells.get((task, passes, method), {}))
            for task, passes, method, seeds in wanted
        ]
        for cell in under_way:
            try:
                yield cell.result()
            except OutOfTimeError as error:
                late = late or error
    finally:
        pool.shutdown(cancel_futures=True)
    if late:
        raise late


def _cell(
    workshop: Workshop, task: str, passes: int, method: str, seeds: Sequence[int], kept: Mapping[int, Result]
) -> list[Result]:
    """Search the rate by validation loss, and return the results, at the best, of the seeds that are not kept."""
    left = [seed for seed in seeds if seed not in kept]
    if not left:
        return []
    rate = kept[min(kept)].rate if kept else _best_rate(workshop, task, passes, method)
    wanted = [run_of(task, passes, method, rate, seed) for seed in left]
    records = workshop.records(wanted)
    return [result_of(run, passes, records[run]) for run in wanted]


def _best_rate(workshop: Workshop, task: str, passes: int, method: str) -> float:
    tried = [run_of(task, passes, method, rate, SEARCHED_WITH) for rate in CLASSIFIERS[method].rates]
    found = workshop.records(tried)
    return min(tried, key=lambda run: float(found[run]["loss"])).rate

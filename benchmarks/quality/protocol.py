"""The runs of `protocol.md`, in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.methods import CLASSIFIERS
from benchmarks.quality.results import Result, result_of
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.quality.tasks import SUBJECTS

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

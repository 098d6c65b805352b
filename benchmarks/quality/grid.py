"""Which runs the tables need: a search for every method's learning rate, then the other seeds, then the few shots."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.methods import Method
from benchmarks.quality.runs import Run, Workshop
from benchmarks.quality.tasks import SUBJECTS

Records = dict[Run, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is asked for."""

    subjects: Sequence[str]
    methods: Sequence[str] | None
    """None takes each subject's standard ones."""
    seeds: int
    shots: Sequence[int] = ()
    scale: float = 1.0
    rates: int | None = None
    """Try only so many learning rates of each method, from its middle one on; None tries all."""
    precision: str = "bf16"

    def methods_of(self, subject: str) -> Sequence[str]:
        """Return the methods of a subject."""
        named = self.methods or SUBJECTS[subject].standard
        return [name for name in named if name in SUBJECTS[subject].methods]

    def rates_of(self, method: Method) -> Sequence[float]:
        """Return the learning rates that are tried for a method."""
        middle = len(method.rates) // 2
        return method.rates if self.rates is None else method.rates[middle : middle + self.rates]

    def run(self, subject: str, method: str, rate: float, seed: int, shots: int | None = None) -> Run:
        """Return one run of the grid."""
        return Run(
            subject=subject,
            method=method,
            rate=rate,
            seed=seed,
            shots=shots,
            scale=self.scale,
            precision=self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the grid gave."""

    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    """The learning rate that was chosen, by subject and method."""
    search: Records = field(default_factory=dict)
    full: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """The records of all seeds, by subject and method."""
    few: dict[tuple[str, int, str], list[dict[str, Any]]] = field(default_factory=dict)
    """By subject, shots and method."""


def explore(grid: Grid, workshop: Workshop) -> Outcome:
    """Carry out the grid: every method's rates with seed 0, the best on the validation data with the other seeds."""
    pairs = [(subject, method) for subject in grid.subjects for method in grid.methods_of(subject)]
    tried = {
        pair: [grid.run(*pair, rate, seed=0) for rate in grid.rates_of(SUBJECTS[pair[0]].methods[pair[1]])]
        for pair in pairs
    }
    search = workshop.records([run for runs in tried.values() for run in runs])
    rates = {pair: best_rate(runs, search) for pair, runs in tried.items()}
    wanted = {pair: [grid.run(*pair, rates[pair], seed) for seed in range(grid.seeds)] for pair in pairs}
    few = {
        (subject, shots, method): [
            grid.run(subject, method, rates[subject, method], seed, shots) for seed in range(grid.seeds)
        ]
        for shots in grid.shots
        for subject, method in pairs
        if SUBJECTS[subject].labelled
    }
    runs = [run for group in (*wanted.values(), *few.values()) for run in group]
    records = workshop.records(runs)
    return Outcome(
        rates=rates,
        search=search,
        full={pair: [records[run] for run in group] for pair, group in wanted.items()},
        few={key: [records[run] for run in group] for key, group in few.items()},
    )


def best_rate(runs: Sequence[Run], records: Records) -> float:
    """Return the rate with the best validation metric; a text writer's is its loss, the lowest of which is best."""

    def quality(run: Run) -> float:
        subject, record = SUBJECTS[run.subject], records[run]
        return float(record[subject.metric]) if subject.metric in record else -float(record["loss"])

    return max(runs, key=quality).rate

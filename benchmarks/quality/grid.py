"""The runs that the tables need: a search for every method's learning rate, then the other seeds, then budgets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from adamix_cli.progress_bar import progress_bar
from benchmarks.quality.methods import Method
from benchmarks.quality.runs import Budget, Run, Workshop
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.errors import OutOfTimeError

RUNS_OF_A_SEARCH = 4
"""Learning rates of a method, which can be tried side by side."""
Records = dict[Run, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The runs to make: tasks, methods, seeds and budgets."""

    subjects: Sequence[str]
    methods: Sequence[str] | None
    """None takes each subject's standard ones."""
    seeds: int
    scale: float = 1.0
    others: Sequence[Budget] = ()
    """Budgets besides the tasks' own, with the learning rates that were found for these."""
    rates: int | None = None
    """Try only so many learning rates of each method, from its middle one on; None tries all."""
    rate: float | None = None
    """Take this learning rate for every method rather than search."""
    precision: str = "bf16"
    routes: bool = True
    """Run trained mixtures in other ways than by their mean as well."""

    def methods_of(self, subject: str) -> Sequence[str]:
        """Return the methods of a subject."""
        named = self.methods or SUBJECTS[subject].standard
        return [name for name in named if name in SUBJECTS[subject].methods]

    def budgets_of(self, subject: str) -> Sequence[Budget]:
        """Return the budgets of a subject, its own first."""
        return [self.own, *(one for one in self.others if one.shots is None or SUBJECTS[subject].labelled)]

    @property
    def own(self) -> Budget:
        """The budget that rates are searched with."""
        return Budget(scale=self.scale)

    def rates_of(self, method: Method) -> Sequence[float]:
        """Return the learning rates that are tried for a method."""
        if self.rate is not None:
            return [self.rate]
        middle = len(method.rates) // 2
        return method.rates if self.rates is None else method.rates[middle : middle + self.rates]

    def run(self, subject: str, method: str, rate: float, seed: int, budget: Budget) -> Run:
        """Return one run of the grid."""
        return Run(
            subject=subject,
            method=method,
            rate=rate,
            seed=seed,
            budget=budget,
            precision=self.precision,
            routes=self.routes,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of a grid."""

    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    """The learning rate that was chosen, by subject and method."""
    records: dict[tuple[str, Budget, str], list[dict[str, Any]]] = field(default_factory=dict)
    """Records of all seeds, by subject, budget and method."""
    left: Sequence[tuple[str, str]] = ()
    """Subjects and methods for which there was no time."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Results of one method on one subject."""

    rate: float
    records: dict[Budget, list[dict[str, Any]]]


def explore(grid: Grid, workshop: Workshop) -> Outcome:
    """Carry out the grid, in the order of its subjects and their methods, as far as there is time.

    A method is done as a whole: its rates with seed 0, then the best on the validation data with the other seeds and
    budgets. So many methods are under way that all jobs have something to do.
    """
    pairs = [(subject, method) for subject in grid.subjects for method in grid.methods_of(subject)]
    together = max(1, workshop.jobs // RUNS_OF_A_SEARCH)

    def carry_out(pair: tuple[str, str]) -> Cell | None:
        try:
            return cell_of(grid, workshop, *pair)
        except OutOfTimeError:
            return None

    with ThreadPoolExecutor(together) as pool:
        cells = dict(zip(pairs, progress_bar(pool.map(carry_out, pairs), total=len(pairs), unit="method"), strict=True))
    done = {pair: cell for pair, cell in cells.items() if cell is not None}
    return Outcome(
        rates={pair: cell.rate for pair, cell in done.items()},
        records={
            (subject, budget, method): done[subject, method].records[budget]
            for subject in grid.subjects
            for budget in grid.budgets_of(subject)
            for method in grid.methods_of(subject)
            if (subject, method) in done
        },
        left=[pair for pair in pairs if pair not in done],
    )


def cell_of(grid: Grid, workshop: Workshop, subject: str, method: str) -> Cell:
    """Return the results of one method on one subject.

    Raises:
        OutOfTimeError: There was no time for all of its runs.
    """
    tried = [grid.run(subject, method, rate, 0, grid.own) for rate in grid.rates_of(SUBJECTS[subject].methods[method])]
    rate = best_rate(tried, workshop.records(tried))
    wanted = {
        budget: [grid.run(subject, method, rate, seed, budget) for seed in range(grid.seeds)]
        for budget in grid.budgets_of(subject)
    }
    records = workshop.records([run for runs in wanted.values() for run in runs])
    return Cell(rate=rate, records={budget: [records[run] for run in runs] for budget, runs in wanted.items()})


def best_rate(runs: Sequence[Run], records: Records) -> float:
    """Return the rate with the best validation metric; a text writer's is its loss, the lowest of which is best."""

    def quality(run: Run) -> float:
        subject, record = SUBJECTS[run.subject], records[run]
        return float(record[subject.metric]) if subject.metric in record else -float(record["loss"])

    return max(runs, key=quality).rate

"""The runs of the grid: what each is, whether it is done, and how it is carried out."""

import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from benchmarks.quality.tasks import SUBJECTS, Subject
from benchmarks.quality.worker import LateError, Worker
from benchmarks.support.errors import BenchmarkError, OutOfTimeError

EVALUATIONS = 4
FEW_SHOT_STEPS = 80
PLACES = ("base", "out", "train_file", "test_file")
"""Fields of a recipe that say where things are on this machine."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The examples that a run trains on, and the number of passes."""

    shots: int | None = None
    """Train on so many examples of each label."""
    scale: float = 1.0
    """Train on this share of the task's examples."""
    times: float = 1
    """Make so many times the task's passes."""
    by_loss: bool = False
    """Keep the checkpoint with the lowest validation loss rather than the best metric."""

    def name(self, subject: str) -> str:
        """Return the name of the budget in a table."""
        size = f"K = {self.shots}" if self.shots else str(round(self.scale * SUBJECTS[subject].examples))
        return size if self.times == 1 else f"{size}, {self.times:g} x the passes"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training; its name is the folder that keeps its record."""

    subject: str
    method: str
    rate: float
    seed: int
    budget: Budget
    precision: str
    routes: bool = True
    """Run a trained mixture in other ways than by its mean as well."""
    tested: bool = True
    """Measure on the test data; a search for a rate needs the validation data alone."""

    @property
    def name(self) -> str:
        """Return the name of the run's folder."""
        shots, times = self.budget.shots, self.budget.times
        data = f"k{shots}" if shots else f"n{round(self.budget.scale * SUBJECTS[self.subject].examples)}"
        data += f"-x{times:g}" if times != 1 else ""
        data += "-by-loss" if self.budget.by_loss else ""
        return f"{self.subject}-{data}-{self.method}-{self.rate:g}-{self.precision}-seed{self.seed}"

    def recipe(self, base: Path, out: Path) -> dict[str, Any]:
        """Return the fields of the recipe."""
        subject = SUBJECTS[self.subject]
        method = subject.methods[self.method]
        examples, passes = self._examples_and_passes(subject)
        batch = int(min(subject.batch, examples) / method.views)
        epochs = passes / method.views
        steps = max(1, round(epochs * examples / batch))
        return {
            "base": str(base),
            "out": str(out),
            "task": subject.task,
            **{name: file for name, file in subject.files().items() if self.tested or name != "test_file"},
            **subject.fields,
            **method.fields,
            "learning_rate": self.rate,
            "seed": self.seed,
            "batch_size": batch,
            "epochs": epochs,
            "eval_steps": max(1, steps // EVALUATIONS),
            "precision": self.precision,
            "eval_batch_size": 32,
            "report_to": "none",
            **({"metric": "loss"} if self.budget.by_loss else {}),
            **({"shots": self.budget.shots} if self.budget.shots else {"train_limit": examples}),
        }

    def _examples_and_passes(self, subject: Subject) -> tuple[int, float]:
        if self.budget.shots is None:
            return round(self.budget.scale * subject.examples), subject.passes * self.budget.times
        examples = 2 * self.budget.shots
        return examples, self.budget.times * FEW_SHOT_STEPS * min(subject.batch, examples) / examples


class Order(Protocol):
    """A training that a workshop carries out."""

    @property
    def subject(self) -> str:
        """Key of the workshop's bases."""

    @property
    def routes(self) -> bool:
        """Run a trained mixture in other ways than by its mean as well."""

    @property
    def name(self) -> str:
        """Name of the training's folder."""

    def recipe(self, base: Path, out: Path) -> dict[str, Any]:
        """Return the fields of the recipe."""


OrderT = TypeVar("OrderT", bound=Order)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where runs are kept, and the processes that carry them out, one run a process at a time."""

    folder: Path
    bases: dict[str, Path]
    jobs: int
    """Processes; each has its share of the cores."""
    deadline: float = math.inf
    """Time of the monotonic clock, in seconds, at which runs that are not finished are stopped."""
    idle: SimpleQueue[Worker] = field(init=False, repr=False, compare=False, default_factory=SimpleQueue)
    """Workers that wait for a run."""
    failed: Event = field(init=False, repr=False, compare=False, default_factory=Event)
    """A run has failed: those that wait for a worker are not begun."""

    def __post_init__(self) -> None:
        """Make the workers; their processes begin with their first runs."""
        threads = max(1, len(os.sched_getaffinity(0)) // self.jobs)
        for _ in range(self.jobs):
            self.idle.put(Worker(threads))

    def __enter__(self) -> Self:
        """Return the workshop."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        while not self.idle.empty():
            self.idle.get().end()

    def records(self, runs: Sequence[OrderT]) -> dict[OrderT, dict[str, Any]]:
        """Carry out the runs that have no record yet, as many at a time as workers are idle; return all records.

        Raises:
            OutOfTimeError: The deadline has passed; runs that are finished are kept.
        """
        missing = [run for run in dict.fromkeys(runs) if not self._is_done(run)]
        with ThreadPoolExecutor(max(1, len(missing))) as pool:
            list(pool.map(self._carry_out, missing))
        return {run: json.loads(self._record(run).read_text()) for run in runs}

    def _record(self, run: Order) -> Path:
        return self.folder / run.name / "record.json"

    def _is_done(self, run: Order) -> bool:
        """Return whether a run has a record; one of another recipe, from before a change, is an error."""
        record = self._record(run)
        if not record.is_file():
            return False
        then, now = json.loads(record.read_text())["recipe"], self._recipe(run)
        if changed := [name for name in {**then, **now} if name not in PLACES and then.get(name) != now.get(name)]:
            raise BenchmarkError(
                f"{record} is of another recipe: {', '.join(changed)} differ; give another --runs, or take it away"
            )
        return True

    def _recipe(self, run: Order) -> dict[str, Any]:
        return run.recipe(self.bases[run.subject], self.folder / run.name / "run")

    def _carry_out(self, run: Order) -> None:
        """Have the next idle worker train, until the deadline."""
        worker = self.idle.get()
        try:
            if self.failed.is_set():
                raise BenchmarkError(f"{run.name} was not begun, since another run failed")
            if (left := self.deadline - time.monotonic()) <= 0:
                raise OutOfTimeError(f"the time is over before {run.name}")
            folder = self.folder / run.name
            folder.mkdir(parents=True, exist_ok=True)
            order = {"recipe": self._recipe(run), "routes": run.routes}
            (folder / "order.json").write_text(json.dumps(order, indent=2))
            error = worker.carry_out(folder, seconds=None if math.isinf(left) else left)
        except LateError:
            raise OutOfTimeError(f"the time is over in {run.name}") from None
        finally:
            self.idle.put(worker)
        if error is not None:
            self.failed.set()
            raise BenchmarkError(f"{run.name} failed: {error}")

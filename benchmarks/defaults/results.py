"""Results of trainings, and the file that keeps them, so that another machine can go on."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from transformers import AutoConfig

from adamix_train.artifacts.atomic_write import write_json
from adamix_train.data.splits import task_of
from adamix_train.recipe.defaults import Situation, complete
from adamix_train.recipe.flags import make_recipe
from benchmarks.defaults.sets import SETS
from benchmarks.defaults.trainings import Training
from benchmarks.quality.runs import Workshop
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.kept import read_kept


@dataclass(frozen=True, kw_only=True)
class Result:
    """Settings and measurements of a training."""

    name: str
    """Name of the training."""
    rows: int
    """Training examples."""
    settings: Mapping[str, Any]
    """Those that the defaults choose, and that a grid may have given."""
    steps: int
    score: float
    """The set's metric on its test data."""
    validation: float | None
    """The same on the validation data; None if the training measured its loss alone there."""
    loss: float
    """On the validation data."""


def result_of(training: Training, record: Mapping[str, Any]) -> Result:
    """Return what is kept of a training's record."""
    metric = SETS[training.subject].metric
    return Result(
        name=training.name,
        rows=record["train_examples"],
        settings=record["settings"],
        steps=record["steps"],
        score=float(record[f"test_{metric}"]),
        validation=record.get(metric),
        loss=float(record["loss"]),
    )


def is_current(result: Result, training: Training, width: int) -> bool:
    """Return whether the defaults, on a base of this width, would choose again what a training chose."""
    recipe = make_recipe(None, {"base": "base", "out": "out", **training.fields})
    situation = Situation(rows=result.rows, width=width, task=task_of(recipe).kind)
    chosen = complete(recipe, situation).recipe
    return all(getattr(chosen, name) == value for name, value in result.settings.items())


class Keeper:
    """Results by training: those of a file, to which the ones that are missing are added as they come."""

    def __init__(self, workshop: Workshop, file: Path | None) -> None:
        """Read the file, unless it is None: then nothing is kept.

        Raises:
            BenchmarkError: The file holds something else.
        """
        self.workshop, self.file = workshop, file
        self.kept = read_results(file) if file else {}
        self.lock = Lock()

    def results(self, trainings: Sequence[Training]) -> dict[Training, Result]:
        """Return the results of trainings of one data set.

        Raises:
            BenchmarkError: The workshop has a record of what other defaults chose.
            OutOfTimeError: The workshop's deadline has passed; results that came before are kept.
        """
        base = self.workshop.bases[trainings[0].subject]
        width = AutoConfig.from_pretrained(base).get_text_config().hidden_size
        missing = [one for one in trainings if not self._has(one, width)]
        with ThreadPoolExecutor(max(1, len(missing))) as pool:
            list(pool.map(lambda one: self._carry_out(one, width), missing))
        return {one: self.kept[one.name] for one in trainings}

    def _has(self, training: Training, width: int) -> bool:
        kept = self.kept.get(training.name)
        return kept is not None and is_current(kept, training, width)

    def _carry_out(self, training: Training, width: int) -> None:
        result = result_of(training, self.workshop.records([training])[training])
        if not is_current(result, training, width):
            folder = self.workshop.folder / training.name
            raise BenchmarkError(f"{folder} is of other defaults; take it away, and it is trained anew")
        with self.lock:
            self.kept[training.name] = result
            if self.file:
                write_results(self.kept, self.file)


def read_results(file: Path) -> dict[str, Result]:
    """Return the results that were kept, by name; none if there is no file.

    Raises:
        BenchmarkError: The file holds something else.
    """
    return {result.name: result for result in read_kept(file, Result, what="the defaults")}


def write_results(results: Mapping[str, Result], file: Path) -> None:
    """Write results in the order of their names."""
    write_json(file, [asdict(results[name]) for name in sorted(results)])

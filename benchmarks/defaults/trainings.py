"""The trainings of a data set: with the defaults, and with each setting of a grid."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.defaults.sets import SETS

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a data set: with the defaults, or with a setting of the grid."""

    subject: str
    seed: int
    made: Path
    """Folder for data files that are made."""
    setting: tuple[float, int] | None = None
    """Learning rate and steps; None leaves all to the defaults."""
    precision: str = "fp32"
    """Number format of forward and backward passes."""
    routes: bool = False

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        setting = f"{self.setting[0]:g}-{self.setting[1]}" if self.setting else "defaults"
        return f"{self.subject}-{setting}-{self.precision}-seed{self.seed}"

    def recipe(self, base: Path, out: Path) -> dict[str, Any]:
        """Return the fields of the recipe, having made the data files that are to be made."""
        return {"base": str(base), "out": str(out), **SETS[self.subject].files(self.made), **self.fields}

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the recipe, without those that name files."""
        subject = SETS[self.subject]
        given = {**subject.fields, "seed": self.seed, "precision": self.precision, "report_to": "none"}
        if self.setting is None:
            return given
        rate, steps = self.setting
        epochs = steps * BATCH / subject.rows
        return given | {
            "learning_rate": rate,
            "batch_size": BATCH,
            "epochs": epochs,
            "eval_steps": max(1, steps // 8),
        }


def trainings(name: str, *, seeds: int, made: Path, precision: str = "fp32", quick: bool = False) -> list[Training]:
    """Return the trainings of a set: the defaults with every seed, and each setting of the grid likewise."""
    grid = list(itertools.product(RATES, SETS[name].steps))
    settings = [None, *(grid[5:6] if quick else grid)]
    return [
        Training(subject=name, seed=seed, setting=setting, made=made, precision=precision)
        for setting in settings
        for seed in range(seeds)
    ]

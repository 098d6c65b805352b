"""Do the defaults learn? Train small data sets without a flag, and with twelve settings, and compare.

A training takes the rows, the base and nothing else; the grid is four learning rates, each for three lengths of the
run. All are measured on the same test data. The best of the twelve is chosen by that test score, which no user can do:
the defaults have to come close to what hindsight would have chosen. `tuned` is what a user reaches who tries all twelve
and takes the one that is best on validation data. Each run is kept under --runs: the command can be stopped and
repeated. The files come from ADAMIX_DATA (default: ../shared/data) and from this repository's demo.
"""

import argparse
import csv
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.runs import Workshop
from benchmarks.support.data import base_models, data_file
from benchmarks.support.errors import OutOfTimeError
from benchmarks.support.harness import publish
from benchmarks.support.machine import usable_cores, versions_of
from benchmarks.support.report import Absent, Findings, Goal, Row
from demos.tasks import DATA as DEMO

PACKAGES = ("torch", "transformers", "peft", "accelerate")
SHARE = 0.98
"""Goal: the defaults' score by that of the best setting."""
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
STEPS = (80, 240, 720)
"""Optimizer steps of the grid's runs."""
BATCH = 16
QUICK = ("tone",)
TESTED = 60
"""Inputs whose texts are generated for a test."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A small data set, the base that learns it, and the metric that is compared."""

    rows: int
    metric: str
    files: Callable[[Path], dict[str, str]]
    """Takes a folder for files that are made; returns the fields of a recipe that name the data."""
    base: str = "minilm"
    steps: tuple[int, ...] = STEPS
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that a user has to give in any case."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a data set: with the defaults, or with a setting of the grid."""

    subject: str
    seed: int
    made: Path
    """Folder for data files that are made."""
    setting: tuple[float, int] | None = None
    """Learning rate and steps; None leaves all to the defaults."""
    routes: bool = False

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        setting = f"{self.setting[0]:g}-{self.setting[1]}" if self.setting else "defaults"
        return f"{self.subject}-{setting}-seed{self.seed}"

    def recipe(self, base: Path, out: Path) -> dict[str, Any]:
        """Return the fields of the recipe."""
        subject = SETS[self.subject]
        given = {
            "base": str(base),
            "out": str(out),
            **subject.files(self.made),
            **subject.fields,
            "seed": self.seed,
            "report_to": "none",
        }
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


def shared(train: str, test: str) -> Callable[[Path], dict[str, str]]:
    """Return a maker of fields for two files below the data folder."""
    return lambda made: {"train_file": str(data_file(train)), "test_file": str(data_file(test))}


def of_demo(task: str) -> Callable[[Path], dict[str, str]]:
    """Return a maker of fields for a task of the demo."""
    return lambda made: {name: str(DEMO / task / f"{name[:-5]}.csv") for name in ("train_file", "test_file")}


def tone_as_scores(made: Path) -> dict[str, str]:
    """Write the demo's tones as scores: 1 for positive, 0 for negative."""
    for part in ("train", "test"):
        with (DEMO / "tone" / f"{part}.csv").open() as stream:
            rows = [{"text": row["text"], "score": int(row["label"] == "positive")} for row in csv.DictReader(stream)]
        _write(made / f"scores-{part}.csv", rows)
    return {"train_file": str(made / "scores-train.csv"), "test_file": str(made / "scores-test.csv")}


def restaurants(made: Path) -> dict[str, str]:
    """Write the first test inputs of E2E, with all their references."""
    fields = shared("e2e/devset.csv", "e2e/testset_w_refs.csv")(made)
    with Path(fields["test_file"]).open() as stream:
        rows = list(csv.DictReader(stream))
    inputs = list(dict.fromkeys(row["mr"] for row in rows))[:TESTED]
    _write(made / "e2e-test.csv", [row for row in rows if row["mr"] in inputs])
    return fields | {"test_file": str(made / "e2e-test.csv")}


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _of_glue(task: str, train: str, test: str, rows: int, metric: str = "accuracy") -> DataSet:
    fields = {"task": task, "train_limit": rows}
    return DataSet(rows=rows, metric=metric, files=shared(f"{task}/{train}", f"{task}/{test}"), fields=fields)


SETS: dict[str, DataSet] = {
    "tone": DataSet(rows=288, metric="accuracy", files=of_demo("tone")),
    "intent": DataSet(rows=297, metric="accuracy", files=of_demo("intent"), fields={"kind": "lora", "r": 8}),
    "scores": DataSet(rows=288, metric="pearson", files=tone_as_scores, fields={"task": "regression"}),
    "sst2-100": _of_glue("sst2", "train.tsv", "test.tsv", 100),
    "mrpc-100": _of_glue("mrpc", "train.txt", "test.txt", 100, "f1"),
    "sst2-1000": _of_glue("sst2", "train.tsv", "test.tsv", 1000),
    "mrpc-1000": _of_glue("mrpc", "train.txt", "test.txt", 1000, "f1"),
    "e2e-500": DataSet(
        rows=500,
        metric="bleu",
        files=restaurants,
        base="smollm2",
        steps=(30, 90, 270),
        fields={"task": "e2e_nlg", "kind": "lora", "r": 8, "lora_alpha": 16.0, "train_limit": 500},
    ),
}
"""CoLA is left out: MiniLM cannot learn it from 1,000 sentences at any setting."""


def main(argv: list[str] | None = None) -> None:
    """Carry out the trainings that are missing, and report."""
    parser = _parser()
    args = parser.parse_args(argv)
    started = time.monotonic()
    if unknown := [name for name in args.sets if name not in SETS]:
        parser.error(f"unknown set {unknown[0]!r}; known are {', '.join(SETS)}")
    command = "python -m benchmarks.defaults " + " ".join(sys.argv[1:] if argv is None else argv)
    deadline = math.inf if args.minutes is None else started + 60 * args.minutes
    publish("defaults", command.strip(), lambda: measure_defaults(args, deadline), json_to=args.json)


def measure_defaults(args: argparse.Namespace, deadline: float) -> Findings:
    """Train every set with the defaults and with the grid's settings, and return what came out."""
    names = QUICK if args.quick else args.sets
    bases = base_models({name: SETS[name].base for name in names})
    runs_of = {
        name: trainings(name, seeds=1 if args.quick else args.seeds, made=args.runs / "data", quick=args.quick)
        for name in names
    }
    with Workshop(folder=args.runs, bases=bases, jobs=args.jobs, deadline=deadline) as workshop:

        def row(name: str) -> Row | Absent:
            try:
                return row_of(name, workshop.records(runs_of[name]))
            except OutOfTimeError:
                return Absent(peer=name, reason="the time was over; repeat the command, which goes on")

        under_way = 1 + args.jobs // len(next(iter(runs_of.values())))
        with ThreadPoolExecutor(under_way) as pool:
            found = list(pool.map(row, names))
    absent = [one for one in found if isinstance(one, Absent)]
    return findings_of([one for one in found if not isinstance(one, Absent)], absent)


def trainings(name: str, *, seeds: int, made: Path, quick: bool = False) -> list[Training]:
    """Return the trainings of a set: the defaults with every seed, and each setting of the grid likewise."""
    grid = list(itertools.product(RATES, SETS[name].steps))
    settings = [None, *(grid[5:6] if quick else grid)]
    return [
        Training(subject=name, seed=seed, setting=setting, made=made) for setting in settings for seed in range(seeds)
    ]


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defaults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", type=lambda text: text.split(","), default=list(SETS), help="with commas (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs at a time (default: one a core)")
    parser.add_argument("--minutes", type=float, help="stop after so many (default: until all is done)")
    parser.add_argument("--runs", type=Path, default=Path("runs/defaults"), help="where runs are kept")
    parser.add_argument("--quick", action="store_true", help="one set and one setting: shows that it runs")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout, the table to stderr")
    return parser


if __name__ == "__main__":
    main()

"""The command `python -m benchmarks.quality`."""

import argparse
import sys
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.quality.grid import Grid, explore
from benchmarks.quality.runs import Workshop
from benchmarks.quality.tasks import SUBJECTS
from demos.models import sample_model


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--tasks", default="sst2,mrpc")
    parser.add_argument("--methods")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    args = parser.parse_args(argv)
    subjects = args.tasks.split(",")
    grid = Grid(
        subjects=subjects,
        methods=args.methods.split(",") if args.methods else None,
        seeds=args.seeds,
        shots=[int(shots) for shots in args.shots.split(",") if shots],
    )
    bases = {subject: sample_model(SUBJECTS[subject].base) for subject in subjects}
    try:
        outcome = explore(grid, Workshop(folder=args.runs, bases=bases, jobs=args.jobs))
    except BenchmarkError as error:
        sys.exit(f"benchmarks.quality: {error}")
    print(outcome.rates)


main()

"""Do the defaults learn? Train small data sets without a flag, and with twelve settings, and compare.

A training takes the rows, the base and nothing else; the grid is four learning rates, each for three lengths of the
run. All are measured on the same test data. The best of the twelve is chosen by that test score, which no user can do:
the defaults have to come close to what hindsight would have chosen. `tuned` is what a user reaches who tries all twelve
and takes the one that is best on validation data. Each result is kept in --results: the command can be stopped and
repeated, on another machine as well. The time until a wrong column is named is measured beside them. The files come
from ADAMIX_DATA (default: ../shared/data) and from this repository's demo.
"""

import argparse
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adamix_train.recipe.recipe import PRECISIONS
from benchmarks.defaults.results import Keeper
from benchmarks.defaults.sets import SETS
from benchmarks.defaults.table import findings_of, row_of
from benchmarks.defaults.trainings import trainings
from benchmarks.defaults.wrong_column import wrong_column_goal
from benchmarks.quality.runs import Workshop
from benchmarks.support.data import base_models
from benchmarks.support.errors import OutOfTimeError
from benchmarks.support.harness import publish
from benchmarks.support.machine import usable_cores
from benchmarks.support.report import Absent, Findings, Row

QUICK = ("tone",)
RESULTS = Path(__file__).parent.parent / "results" / "defaults_runs.json"


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
    seeds, made = 1 if args.quick else args.seeds, args.runs / "data"
    runs_of = {
        name: trainings(name, seeds=seeds, made=made, precision=args.precision, quick=args.quick) for name in names
    }
    with Workshop(folder=args.runs, bases=bases, jobs=args.jobs, deadline=deadline) as workshop:
        keeper = Keeper(workshop, None if args.quick else args.results)

        def row(name: str) -> Row | Absent:
            try:
                return row_of(name, keeper.results(runs_of[name]))
            except OutOfTimeError:
                return Absent(peer=name, reason="the time was over; repeat the command, which goes on")

        under_way = 1 + args.jobs // len(next(iter(runs_of.values())))
        with ThreadPoolExecutor(under_way) as pool:
            found = list(pool.map(row, names))
    absent = [one for one in found if isinstance(one, Absent)]
    rows = [one for one in found if not isinstance(one, Absent)]
    return findings_of(rows, absent, wrong_column_goal(next(iter(bases.values()))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defaults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", type=lambda text: text.split(","), default=list(SETS), help="with commas (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of all trainings (default: fp32)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs at a time (default: one a core)")
    parser.add_argument("--minutes", type=float, help="stop after so many (default: until all is done)")
    parser.add_argument("--runs", type=Path, default=Path("runs/defaults"), help="where runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file with the results of runs")
    parser.add_argument("--quick", action="store_true", help="one set and one setting: shows that it runs")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout, the table to stderr")
    return parser


if __name__ == "__main__":
    main()

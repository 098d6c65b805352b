"""Is AdaMix worth using? Train it and its baselines alike, and compare them on test data.

All methods take the same number of optimizer steps and send the same number of rows through the base. Every method's
learning rate is searched with seed 0 among as many rates as the others', by the metric on held-out data; the other
seeds and the few-shot runs take the rate that was found. Each run is kept under --runs: the command can be stopped and
repeated. The files come from ADAMIX_DATA (default: ../shared/data).
"""

import argparse
import math
import sys
import time
from pathlib import Path

from benchmarks.quality.comparison import goals_of
from benchmarks.quality.findings import findings_of
from benchmarks.quality.grid import Grid, explore
from benchmarks.quality.plot import draw_spread
from benchmarks.quality.protocol import STAGES, carry_out
from benchmarks.quality.report import write_report
from benchmarks.quality.results import read_results, rows_of, write_results
from benchmarks.quality.runs import Budget, Workshop
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.data import base_models
from benchmarks.support.errors import OutOfTimeError
from benchmarks.support.harness import publish
from benchmarks.support.machine import usable_cores, versions_of
from benchmarks.support.report import Absent, Findings

PACKAGES = ("torch", "transformers", "peft", "accelerate", "scikit-learn")
QUICK_SCALE = 0.1
QUICK_METHODS = ("adapter", "adamix")
ALL = "all"
RESULTS = Path(__file__).parent.parent / "results" / "quality_protocol.json"


def main(argv: list[str] | None = None) -> None:
    """Carry out the grid that the command line asks for, and report it."""
    parser = _parser()
    args = parser.parse_args(argv)
    args.started = time.monotonic()
    if unknown := [name for name in args.tasks if name not in SUBJECTS]:
        parser.error(f"unknown task {unknown[0]!r}; known are {', '.join(SUBJECTS)}")
    known = {method for name in args.tasks for method in SUBJECTS[name].methods}
    if unknown := [name for name in args.methods or () if name not in {*known, ALL}]:
        parser.error(f"unknown method {unknown[0]!r}; known are {', '.join(sorted(known))}")
    command = "python -m benchmarks.quality " + " ".join(sys.argv[1:] if argv is None else argv)
    measure = measure_protocol if args.protocol or args.report else measure_quality
    publish("quality", command, lambda: measure(args), json_to=args.json)


def measure_protocol(args: argparse.Namespace) -> Findings:
    """Carry out the protocol as far as there is time, unless a report alone is asked for, and return what it says.

    Results are written after every cell, so that they can be looked at and kept while it goes on.
    """
    results = read_results(args.results)
    absent = []
    if not args.report:
        deadline = math.inf if args.minutes is None else args.started + 60 * args.minutes
        bases = base_models({task: SUBJECTS[task].base for stage in STAGES for task in stage.tasks})
        try:
            with Workshop(folder=args.runs, bases=bases, jobs=args.jobs, deadline=deadline) as workshop:
                for cell in carry_out(workshop, kept=results):
                    results = write_results([*results, *cell], args.results)
        except OutOfTimeError as error:
            absent = [Absent(peer="the rest", reason=f"{error}; repeat the command, which goes on")]
    write_report(results, args.results)
    goals = goals_of(results)
    worst = next((str(goal) for goal in goals if not goal.met), "every goal is met")
    return Findings(goals=goals, rows=rows_of(results), versions=versions_of(PACKAGES), worst=worst, absent=absent)


def measure_quality(args: argparse.Namespace) -> Findings:
    """Carry out the grid, draw the plot if it is asked for, and return what came out."""
    grid = Grid(
        subjects=args.tasks,
        methods=_methods(args),
        seeds=args.seeds,
        others=[*(Budget(shots=shots) for shots in args.shots), *(Budget(times=times) for times in args.longer)],
        scale=QUICK_SCALE if args.quick else 1.0,
        rates=1 if args.quick else None,
        rate=args.rate,
        precision=args.precision,
        routes=not args.quick,
    )
    bases = base_models({subject: SUBJECTS[subject].base for subject in grid.subjects})
    deadline = math.inf if args.minutes is None else args.started + 60 * args.minutes
    with Workshop(folder=args.runs, bases=bases, jobs=args.jobs, deadline=deadline) as workshop:
        outcome = explore(grid, workshop)
    if args.plot and outcome.records:
        draw_spread(outcome, args.plot)
    return findings_of(grid, outcome, versions_of(PACKAGES))


def _methods(args: argparse.Namespace) -> list[str] | None:
    if args.methods and ALL in args.methods:
        return [method for subject in args.tasks for method in SUBJECTS[subject].methods]
    return args.methods or (list(QUICK_METHODS) if args.quick else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=_names, default=["sst2", "mrpc"], help=f"of {', '.join(SUBJECTS)}, with commas")
    parser.add_argument(
        "--methods", type=_names, help="with commas, or all (default: the six that the claims need, e2e: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--shots", type=_numbers, default=[], help="K of few-shot runs, with commas (default: none)")
    parser.add_argument("--longer", type=_numbers, default=[], help="multiples of the passes, with commas")
    parser.add_argument(
        "--rate", type=float, help="the learning rate of every method (default: each one's is searched)"
    )
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"), help="(default: bf16)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs at a time (default: one a core)")
    parser.add_argument(
        "--minutes",
        type=float,
        help="stop after so many; the table has the methods that are finished, in the order of --tasks and --methods, "
        "and names those that are left, with which the same command goes on (default: until all is done)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where runs are kept")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one adapter and AdaMix at one rate on a tenth of the data: shows that it runs",
    )
    parser.add_argument(
        "--protocol",
        action="store_true",
        help="carry out protocol.md; of the other options it takes --runs, --jobs, --minutes and --json",
    )
    parser.add_argument("--report", action="store_true", help="draw the page and the picture of the kept results anew")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file with the protocol's results")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the spread over seeds")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout, the table to stderr")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(name) for name in _names(text)]


if __name__ == "__main__":
    main()

"""The command line that every benchmark has: `python -m benchmarks.NAME [--quick] [--json FILE|-]`."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine
from benchmarks.report import Findings, Report, write_whole
from benchmarks.rounds import Pace

ROUNDS = 25
QUICK_ROUNDS = 2
STDOUT = "-"

Measurement = Callable[[Pace], Findings]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A claim and how it is measured."""

    name: str
    """The module below `benchmarks`."""
    claim: str
    measure: Measurement


def main(benchmark: Benchmark, argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON object as the command line asks."""
    args = _parser(benchmark).parse_args(argv)
    try:
        report = _report(benchmark, quick=args.quick)
    except BenchmarkError as error:
        sys.exit(f"benchmarks.{benchmark.name}: {error}")
    print(report.as_text(), end="", file=sys.stderr if args.json == STDOUT else sys.stdout)
    if args.json == STDOUT:
        print(report.as_json(), end="")
    elif args.json:
        write_whole(Path(args.json), report.as_json())


def _report(benchmark: Benchmark, *, quick: bool) -> Report:
    """Return the report of one measurement; what libraries print meanwhile goes to stderr."""
    with redirect_stdout(sys.stderr):
        findings = benchmark.measure(Pace(rounds=QUICK_ROUNDS if quick else ROUNDS))
    return Report(
        name=benchmark.name,
        command=f"python -m benchmarks.{benchmark.name}" + (" --quick" if quick else ""),
        machine=describe_machine(),
        findings=findings,
    )


def _parser(benchmark: Benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.claim)
    parser.add_argument("--quick", action="store_true", help="fewer repeats of the same work, in under a minute")
    parser.add_argument(
        "--json", metavar="FILE|-", help="write one JSON object; with - to stdout, and the table goes to stderr"
    )
    return parser

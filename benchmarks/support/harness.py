"""The command line that every benchmark has: `python -m benchmarks.NAME [--quick] [--json FILE|-]`."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from adamix_train.artifacts.atomic_write import write_text
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.machine import describe_machine
from benchmarks.support.report import Findings, Report
from benchmarks.support.rounds import Pace

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
    rounds: int = ROUNDS


def main(benchmark: Benchmark, argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON object as the command line asks."""
    args = _parser(benchmark).parse_args(argv)
    pace = Pace(rounds=QUICK_ROUNDS if args.quick else benchmark.rounds)
    command = f"python -m benchmarks.{benchmark.name}" + (" --quick" if args.quick else "")
    publish(benchmark.name, command, lambda: benchmark.measure(pace), json_to=args.json)


def publish(name: str, command: str, measure: Callable[[], Findings], *, json_to: str | None) -> None:
    """Measure, print the table, and write the JSON object to a file or, for "-", to stdout.

    What libraries print meanwhile goes to stderr.
    """
    try:
        with redirect_stdout(sys.stderr):
            findings = measure()
    except BenchmarkError as error:
        sys.exit(f"benchmarks.{name}: {error}")
    report = Report(name=name, command=command, machine=describe_machine(), findings=findings)
    print(report.as_text(), end="", file=sys.stderr if json_to == STDOUT else sys.stdout)
    if json_to == STDOUT:
        print(report.as_json(), end="")
    elif json_to:
        write_text(Path(json_to), report.as_json())


def _parser(benchmark: Benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.claim)
    parser.add_argument("--quick", action="store_true", help="fewer repeats of the same work, in under a minute")
    parser.add_argument(
        "--json", metavar="FILE|-", help="write one JSON object; with - to stdout, and the table goes to stderr"
    )
    return parser

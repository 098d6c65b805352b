"""Clients, evaluators and load generators of others against adamix-serve: `make interop`.

Runs `tests/interop` in full and reports for each file which packages asked, how many tests passed, and the load
generators' own figures. A client whose environment is not installed is named as absent.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal, Row

ROOT = Path(__file__).parents[1]
TESTS = "tests/interop"
CASES = {"full": 2000, "quick": 100}
"""Cases of schemathesis, for each kind of bundle."""
FIGURES = "figures"
"""Property of a test that holds a tool's own figures."""
PACKAGES = ("fastapi", "uvicorn", "onnxruntime", "llguidance")


@dataclass
class Client:
    """The outcome of a file of tests."""

    passed: int = 0
    failed: int = 0
    known: int = 0
    """Tests that are expected to fail, each with a reason in its file."""
    absent: set[str] = field(default_factory=set)
    """Reasons for which tests were skipped."""
    packages: dict[str, str] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)


def main(argv: list[str] | None = None) -> None:
    """Run the tests, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interop", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases of schemathesis, as in `make test`")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    command = "python -m benchmarks.interop" + (" --quick" if args.quick else "")
    publish("interop", command, lambda: measure("quick" if args.quick else "full"), json_to=args.json)


def measure(cases: str) -> Findings:
    """Run the tests and return what became of each client."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", TESTS, f"--junitxml={report}", "-o", "junit_family=xunit1"]
        environment = {**os.environ, "ADAMIX_INTEROP_CASES": str(CASES[cases])}
        subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr)
        if not report.is_file():
            raise BenchmarkError(f"pytest wrote no report of {TESTS}: see its output above")
        return findings_of(clients_of(ElementTree.parse(report).iter("testcase")))


def clients_of(tests: Iterable[ElementTree.Element]) -> dict[str, Client]:
    """Return the outcomes by the name of the file, from the tests of a JUnit report."""
    clients: dict[str, Client] = {}
    for test in tests:
        name = test.get("classname", "").rpartition(".")[2].removeprefix("test_")
        client = clients.setdefault(name, Client())
        skipped = test.find("skipped")
        if skipped is not None and skipped.get("type") == "pytest.xfail":
            client.known += 1
        elif skipped is not None:
            client.absent.add(skipped.get("message", ""))
        elif test.find("failure") is not None or test.find("error") is not None:
            client.failed += 1
        else:
            client.passed += 1
        _add_properties(client, test)
    return clients


def _add_properties(client: Client, test: ElementTree.Element) -> None:
    found = [(one.get("name", ""), one.get("value", "")) for one in test.iter("property")]
    packages = {name: value for name, value in found if name != FIGURES}
    client.packages |= packages
    for name, value in found:
        if name == FIGURES:
            client.figures.append(f"{next(iter(packages), '')}: {value}")


def findings_of(clients: dict[str, Client]) -> Findings:
    """Return the table, in the order of the files."""
    failed = sum(client.failed for client in clients.values())
    return Findings(
        goals=[Goal(what="tests that failed", value=float(failed), goal=0.0, better="lower")],
        rows=[_row(name, client) for name, client in sorted(clients.items()) if client.passed or client.failed],
        versions=versions_of(PACKAGES),
        worst="none: these are outcomes",
        absent=[
            Absent(peer=name, reason=reason) for name, client in clients.items() for reason in sorted(client.absent)
        ],
    )


def _row(name: str, client: Client) -> Row:
    return {
        "tests": name,
        "packages": ", ".join(f"{package} {version}" for package, version in client.packages.items()),
        "passed": client.passed,
        "failed": client.failed,
        "known to fail": client.known,
        "figures": "; ".join(client.figures),
    }


if __name__ == "__main__":
    main()

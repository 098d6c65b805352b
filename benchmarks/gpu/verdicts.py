"""A plug-in of pytest that writes each test's verdict as it falls, so that a run that is cut short loses none.

`pytest -p benchmarks.gpu.verdicts --verdicts FILE` writes one JSON object a line: test, verdict, why.
"""

import json
from pathlib import Path
from typing import Any

import pytest

OPTION = "--verdicts"
LONGEST = 300
"""Characters of a reason."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption(OPTION, type=Path, metavar="FILE", help="write each verdict to FILE as it falls")


def pytest_configure(config: pytest.Config) -> None:
    """Record the verdicts, if a file is named; workers of a parallel run leave that to their controller."""
    file = config.getoption(OPTION)
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(file))


class Recorder:
    """Writes verdicts to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the verdict of a test that has run, was skipped, or failed before or after it ran."""
        if report.when == "call" or report.skipped:
            self._write(report.nodeid, report.outcome, report.longrepr)
        elif report.failed:
            self._write(report.nodeid, "error", report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write the error of a file that cannot be loaded."""
        if report.failed:
            self._write(report.nodeid, "error", report.longrepr)

    def _write(self, test: str, verdict: str, reason: object) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": test, "verdict": verdict, "why": why(reason)}) + "\n")


def why(reason: Any) -> str:
    """Return the reason of a report in one line; empty if there is none."""
    if reason is None:
        return ""
    if isinstance(reason, tuple):  # a skipped test: file, line, reason
        reason = reason[2]
    crash = getattr(reason, "reprcrash", None)
    text = str(crash.message if crash else reason)
    return " ".join(text.split())[:LONGEST]

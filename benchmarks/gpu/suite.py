"""The tests that need a GPU, as pytest runs them: every path and its parity, with the summary and the failures."""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.setting import Setting
from benchmarks.peers import last_line
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.machine import usable_cores
from benchmarks.support.report import Row

ROOT = Path(__file__).parents[2]
MARKS = ("mark.gpu", "on_gpu")
"""Texts that a test file with a test for a GPU has."""
MARGIN = 15.0
"""Seconds before the part's limit at which pytest is ended, so that what it said until then is kept."""
TINY_LIMIT = 60.0
TEST_LIMIT = 90
"""Seconds of a test, such as one that compiles."""
PROCESSES = 6
"""Most processes that share the tests, and the GPU, if pytest-xdist is there."""
OPTIONS = (
    *("-m", "gpu", "-v", "-rfE", "--tb=short", "--color=no", "--continue-on-collection-errors"),
    *("-p", "no:cacheprovider", "-o", "addopts="),
)
"""Options of pytest; those of pyproject.toml name plugins that may not be installed."""


def run_tests(setting: Setting) -> Outcome:
    """Run the tests; a failure is a row, not a failure of the part.

    Raises:
        BenchmarkError: pytest ran no test.
    """
    limit = TINY_LIMIT if setting.tiny else PARTS["tests"].limit - MARGIN
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "verdicts.jsonl"
        command = [sys.executable, "-m", "pytest", *options(file), *gpu_files(ROOT)]
        with tempfile.TemporaryFile("w+") as log:
            try:
                code = subprocess.run(
                    command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT, timeout=limit
                ).returncode
                ended = f"pytest ended with {code} after {time.monotonic() - start:.0f} s"
            except subprocess.TimeoutExpired:
                ended = f"pytest was ended after {limit:.0f} s"
            log.seek(0)
            output = log.read()
        rows = verdicts(file)
    print(output)
    if not rows:
        raise BenchmarkError(f"no test ran: {ended}: {last_line(output)}")
    return Outcome(rows=rows, notes=[f"{ended}: {last_line(output).strip('= ')}."])


def environment() -> dict[str, str]:
    """Return the environment of pytest, which finds the plug-in of this benchmark."""
    paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def options(file: Path) -> list[str]:
    """Return pytest's options, those of its plug-ins only where they are installed."""
    found = [*OPTIONS, "-p", "benchmarks.gpu.verdicts", "--verdicts", str(file)]
    if find_spec("pytest_timeout"):
        found += ["--timeout", str(TEST_LIMIT)]
    processes = min(PROCESSES, usable_cores() // 2)
    if processes > 1 and find_spec("xdist"):
        found += ["-n", str(processes), "--dist", "loadfile"]
    return found


def gpu_files(root: Path) -> list[str]:
    """Return the test files with a test for a GPU, relative to `root`; others need packages that may be missing."""
    return [
        str(file.relative_to(root))
        for file in sorted((root / "tests").rglob("test_*.py"))
        if any(mark in file.read_text("utf-8") for mark in MARKS)
    ]


def verdicts(file: Path) -> list[Row]:
    """Return a row for each test, with the reason of a failure, by the name of the test."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    rows: list[Row] = [json.loads(line) for line in lines]
    return sorted(rows, key=lambda row: str(row["test"]))

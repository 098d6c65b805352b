"""The tests that need a GPU, as pytest runs them: every path and its parity, with the summary and the failures."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.setting import Setting
from benchmarks.peers import last_line
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Row

ROOT = Path(__file__).parents[2]
MARKS = ("mark.gpu", "on_gpu")
"""Texts that a test file with a test for a GPU has."""
MARGIN = 15.0
"""Seconds before the part's limit at which pytest is ended, so that what it said until then is kept."""
TINY_LIMIT = 60.0
VERDICT = re.compile(r"^(tests/\S+?::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
REASON = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?(?:::.+?)?)(?: - (.*))?$")
OPTIONS = ("-m", "gpu", "-v", "-rfE", "--tb=short", "--color=no", "-p", "no:cacheprovider", "-o", "addopts=")
"""Options of pytest; those of pyproject.toml name plugins that may not be installed."""


def run_tests(setting: Setting) -> Outcome:
    """Run the tests; a failure is a row, not a failure of the part.

    Raises:
        BenchmarkError: pytest ran no test.
    """
    files = gpu_files(ROOT)
    command = [sys.executable, "-m", "pytest", *OPTIONS, *files]
    limit = TINY_LIMIT if setting.tiny else PARTS["tests"].limit - MARGIN
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=limit).returncode
            ended = f"pytest ended with {code} after {time.monotonic() - start:.0f} s"
        except subprocess.TimeoutExpired:
            ended = f"pytest was ended after {limit:.0f} s"
        log.seek(0)
        output = log.read()
    rows = list(verdicts(output))
    print(output)
    if not rows:
        raise BenchmarkError(f"no test ran: {ended}: {last_line(output)}")
    return Outcome(rows=rows, notes=[f"{ended}: {last_line(output).strip('= ')}."])


def gpu_files(root: Path) -> list[str]:
    """Return the test files with a test for a GPU, relative to `root`; others need packages that may be missing."""
    return [
        str(file.relative_to(root))
        for file in sorted((root / "tests").rglob("test_*.py"))
        if any(mark in file.read_text("utf-8") for mark in MARKS)
    ]


def verdicts(output: str) -> Iterator[Row]:
    """Yield a row for each test of pytest's output, with the reason of a failure; files that fail to load come last."""
    reasons = {found[1]: found[2] or "" for line in output.splitlines() if (found := REASON.match(line))}
    seen = set()
    for line in output.splitlines():
        if found := VERDICT.match(line):
            seen.add(found[1])
            yield {"test": found[1], "verdict": found[2].lower(), "why": reasons.get(found[1], "")}
    for name in reasons.keys() - seen:
        yield {"test": name, "verdict": "error", "why": reasons[name]}

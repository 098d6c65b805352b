"""The time until a column that the data does not have is named."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Goal
from demos.tasks import data_file

COLUMN = "massage"
SECONDS = 2.0
TURNS = 5


def wrong_column_goal(base: Path) -> Goal:
    """Return the median time, in seconds, from the command to the error."""
    seconds = statistics.median(_seconds_until_named(base) for _ in range(TURNS))
    return Goal(what="seconds until a wrong column is named", value=seconds, goal=SECONDS, better="lower")


def _seconds_until_named(base: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = data_file("tone", "train")
        flags = ["--base", str(base), "--train-file", str(file), "--text-column", COLUMN, "--out", f"{folder}/run"]
        start = time.perf_counter()
        ended = subprocess.run([sys.executable, "-m", "adamix_train", *flags], capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if ended.returncode == 0 or COLUMN not in ended.stderr:
        raise BenchmarkError(f"the wrong column was not named: {ended.stderr[-300:]}")
    return seconds

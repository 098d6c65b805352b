"""A process that carries out runs one after another, so that PyTorch is imported once and not for each of them."""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from benchmarks.peers import last_line

MODULE = "benchmarks.quality.one"
DONE = "done"


class LateError(Exception):
    """A run took longer than it may; its process was killed."""


class Worker:
    """A process, begun with its first run and anew after it died or was killed."""

    def __init__(self, threads: int) -> None:
        """Give each run so many threads."""
        self.threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    def carry_out(self, folder: Path, *, seconds: float | None) -> str | None:
        """Carry out the run of a folder, which has order.json; return the last line of its error, None without one.

        Raises:
            LateError: It took longer than `seconds`.
        """
        if self._process is not None and self._process.poll() is not None:
            self.end()  # it died between two runs
        process = self._process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], seconds)[0]:
            self.end()
            raise LateError
        answer = process.stdout.readline().strip()
        if answer:
            return None if answer == DONE else answer
        error = self._last_line()
        self.end()
        return error

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError), self._process as process:
                process.kill()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _begin(self) -> subprocess.Popen[str]:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        return self._process

    def _last_line(self) -> str:
        assert self._process is not None
        assert self._log is not None
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip()
        return last_line(said) if said else f"its process ended with {code}"

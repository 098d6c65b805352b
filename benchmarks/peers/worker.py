"""A peer that stays loaded and answers jobs, in a process that is stopped while others are measured."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers import HERE, last_line
from benchmarks.support.errors import PeerError

LAST_WORDS = 5.0
"""Seconds that a process which answers no more may take to say why."""


class Worker:
    """A process that answers."""

    def __init__(self, process: subprocess.Popen[str], log: TextIO) -> None:
        self.process, self.log = process, log
        self._receive()
        self._pause()

    def ask(self, job: dict[str, Any]) -> Any:
        """Return the answer to a job."""
        os.killpg(self.process.pid, signal.SIGCONT)
        assert self.process.stdin is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        found = self._receive()
        self._pause()
        return found

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LAST_WORDS)
            self.log.seek(0)
            raise PeerError(f"it ended before it answered: {last_line(self.log.read())}")
        return json.loads(line)

    def _pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@contextmanager
def working(python: Path | str, script: str, *arguments: Path | str) -> Iterator[Worker]:
    """Run a script of this folder that answers jobs, until the block ends."""
    command = [str(part) for part in (python, "-E", "-s", HERE / script, *arguments)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            yield Worker(process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

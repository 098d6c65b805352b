"""A worker process as its supervisor sees it."""

import contextlib
import os
import signal
import time

from serve.workers.board import StatusBoard, WorkerState

LONGEST_TICK = 0.5
"""Seconds of silence that one look adds at most: a supervisor that was stopped itself blames no worker for it."""
HAS_HEARTBEAT = (WorkerState.WARMING, WorkerState.READY)


class WorkerProcess:
    """A child process, its entry of the status board, and how long it has been silent."""

    def __init__(self, pid: int, *, board: StatusBoard, entry: int, number: int) -> None:
        """Begin the entry of a process that has been forked."""
        self.pid, self.board, self.entry, self.number = pid, board, entry, number
        self.exit_code: int | None = None
        """The exit code, negative for a signal; None while it runs."""
        self.started = self.looked = time.monotonic()
        self.has_opened = self.was_ready = False
        self.heartbeat, self.silence = 0.0, 0.0
        self.deadline = float("inf")
        """Time at which it is killed if it has not ended."""

    @property
    def state(self) -> WorkerState:
        """The state that it tells of."""
        status = self.board.get(self.entry)
        return WorkerState.STARTING if status is None else status.state

    @property
    def reloads(self) -> int:
        """Reloads that it has completed."""
        status = self.board.get(self.entry)
        return 0 if status is None else status.reloads

    @property
    def failed_reloads(self) -> int:
        """Those of them that have changed nothing."""
        status = self.board.get(self.entry)
        return 0 if status is None else status.failed_reloads

    def look(self) -> None:
        """Take note of its state and of its heartbeat."""
        now, status = time.monotonic(), self.board.get(self.entry)
        elapsed, self.looked = min(now - self.looked, LONGEST_TICK), now
        if status is None:
            return
        self.has_opened = self.has_opened or status.state >= WorkerState.WARMING
        self.was_ready = self.was_ready or status.state is WorkerState.READY
        if status.state in HAS_HEARTBEAT and status.heartbeat == self.heartbeat:
            self.silence += elapsed
        else:
            self.heartbeat, self.silence = status.heartbeat, 0.0

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, number: int, *, seconds: float) -> None:
        """Ask the process to end, and have it killed if it has not within so many seconds."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)
        self.send(number)

    def kill(self) -> None:
        """End the process now."""
        self.send(signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs. Its entry is free once it has ended."""
        if self.exit_code is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.exit_code = os.waitstatus_to_exitcode(ended[1])
            self.board.end(self.entry)
        return self.exit_code

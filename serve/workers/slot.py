"""The place of one worker of a server: the process that has it, and when the next one starts."""

import time
from dataclasses import dataclass

from serve.workers.cores import Share
from serve.workers.process import WorkerProcess

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died at its start is started again; twice as many each time."""
YOUNG_SECONDS = 5.0
"""A worker that was ready and died no younger than this is started again at once."""


@dataclass
class Slot:
    """The place of one worker, and of its successor."""

    number: int
    share: Share
    worker: WorkerProcess | None = None
    successor: WorkerProcess | None = None
    retired: WorkerProcess | None = None
    """The worker before, while it completes its requests."""
    failures: int = 0
    """Deaths at the start, one after another."""
    start_at: float = 0.0
    """Time of the next start."""

    def processes(self) -> list[WorkerProcess]:
        """Return the processes that run."""
        return [one for one in (self.worker, self.successor, self.retired) if one is not None]

    def plan_restart(self, dead: WorkerProcess) -> float:
        """Set the time of the next start, and return the seconds until then."""
        self.failures = 0 if dead.was_ready else self.failures + 1
        now = time.monotonic()
        delay = 0.0 if now - dead.started >= YOUNG_SECONDS else FIRST_DELAY
        if self.failures:
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self.failures - 1))
        self.start_at = now + delay
        return delay

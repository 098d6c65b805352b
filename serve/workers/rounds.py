"""Rounds through the workers of a server, one worker at a time: to replace them, and to have them reload."""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence

from serve.workers.board import WorkerState
from serve.workers.process import HAS_HEARTBEAT, WorkerProcess
from serve.workers.slot import Slot

RELOAD_SECONDS = 600.0
"""Time after which a worker that reloads is not waited for any more."""
logger = logging.getLogger(__name__)


class Replacement:
    """A rolling restart: a successor is ready before a worker retires, and has retired before the next one starts."""

    def __init__(self, slots: Sequence[Slot], start: Callable[[Slot], WorkerProcess], *, retire_seconds: float) -> None:
        """Describe it.

        Args:
            slots: The places of the workers.
            start: Starts a process for one.
            retire_seconds: Most seconds in which a worker completes its requests.
        """
        self.slots, self.start, self.retire_seconds = slots, start, retire_seconds
        self.waiting: deque[int] = deque()
        """Numbers of the workers that wait for a successor."""

    def request(self) -> None:
        """Begin a round; one that is under way goes on to all that it has replaced already."""
        logger.info("the workers are replaced, one after another")
        self.waiting.extend(slot.number for slot in self.slots if slot.number not in self.waiting)

    def step(self) -> None:
        """Go on, if there is something to go on with."""
        for slot in self.slots:
            if slot.worker is None and slot.successor is not None:  # the worker died meanwhile
                slot.worker, slot.successor = slot.successor, None
                self.waiting.remove(slot.number)
        if not self.waiting or any(slot.retired is not None for slot in self.slots):
            return
        slot = self.slots[self.waiting[0]]
        if slot.worker is None:
            self.waiting.popleft()  # it is started anew as it is
        elif slot.successor is None:
            slot.successor = self.start(slot)
        elif slot.successor.state is WorkerState.READY:
            self.waiting.popleft()
            slot.worker, slot.successor, slot.retired = slot.successor, None, slot.worker
            slot.retired.stop(signal.SIGUSR2, seconds=self.retire_seconds)

    def bury(self, slot: Slot) -> None:
        """Take note of a successor and of a retired worker that have ended; without a successor the round ends."""
        if slot.retired is not None and (code := slot.retired.poll()) is not None:
            if code:
                logger.warning("worker %d, which was replaced, ended with %s", slot.number, reason(code))
            slot.retired = None
        if slot.successor is not None and (code := slot.successor.poll()) is not None:
            logger.error("worker %d is not replaced: its successor ended with %s", slot.number, reason(code))
            slot.successor = None
            self.waiting.clear()


class Reloading:
    """One worker's reload."""

    def __init__(self, worker: WorkerProcess) -> None:
        """Begin one."""
        self.worker, self.before, self.failed_before = worker, worker.reloads, worker.failed_reloads
        self.end = time.monotonic() + RELOAD_SECONDS

    @property
    def is_under_way(self) -> bool:
        """True unless it is done, the worker has ended, or has no more time."""
        return self.worker.exit_code is None and self.worker.reloads == self.before and time.monotonic() < self.end

    @property
    def has_failed(self) -> bool:
        """True if it has changed nothing."""
        return self.worker.failed_reloads > self.failed_before


class Reload:
    """Workers that read their settings again; where one cannot, those behind it do not."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        """Describe it, for the places of the workers."""
        self.slots = slots
        self.waiting: deque[int] = deque()
        self.current: Reloading | None = None
        """The worker that reloads."""

    def request(self) -> None:
        """Begin a round from the first worker on."""
        logger.info("the workers read their settings again, one after another")
        self.waiting = deque(slot.number for slot in self.slots)

    def step(self) -> None:
        """Go on, if the worker that reloads is done."""
        if self.current is not None:
            if self.current.is_under_way:
                return
            if self.current.has_failed and self.waiting:
                logger.error("worker %d keeps its settings, and so do those behind it", self.current.worker.number)
                self.waiting.clear()
            self.current = None
        if not self.waiting:
            return
        next_one = self.slots[self.waiting[0]].worker
        if next_one is not None and next_one.state in HAS_HEARTBEAT:
            self.waiting.popleft()
            self.current = Reloading(next_one)
            next_one.send(signal.SIGHUP)


def reason(code: int) -> str:
    """Return the reason of an end in words; the code of a signal is negative."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

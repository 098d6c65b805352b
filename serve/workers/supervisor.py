"""The supervisor: it starts workers, starts those again that die or hang, and passes signals on.

It loads no model. SIGTERM and SIGINT end the workers as they end a single process, SIGHUP has one after another read
its settings again, and SIGUSR2 replaces one after another by a successor that is ready.
"""

import gc
import logging
import os
import select
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from serve.server import LAST_WORDS_SECONDS
from serve.workers.board import StatusBoard
from serve.workers.cores import shares_of
from serve.workers.kept_settings import KeptSettings
from serve.workers.place import ALLOWANCES, METRICS, WorkerPlace
from serve.workers.process import WorkerProcess
from serve.workers.rounds import Reload, Replacement, reason
from serve.workers.server import RETIRE_SECONDS
from serve.workers.slot import Slot

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.1
START_SECONDS = 900.0
"""Time in which a worker has to open its bundles."""
MARGIN_SECONDS = 5.0
MOST_START_FAILURES = 5
"""Deaths before a worker was ever ready, one after another, after which the supervisor gives up if none serves."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The job of a supervisor."""

    workers: int
    listener: socket.socket
    heartbeat_timeout: float
    """Seconds without a heartbeat after which a worker is taken to hang."""
    exit_seconds: float
    """Most seconds in which a worker ends by itself once it is told to."""
    reserved: Sequence[socket.socket] = ()
    """Sockets that keep ports for the workers."""


class _Forked(BaseException):
    """Raised in a new worker, up to where the supervisor was started."""

    def __init__(self, place: WorkerPlace) -> None:
        super().__init__()
        self.place = place


@dataclass
class Supervisor:
    """Workers, and what becomes of them."""

    plan: Plan
    folder: Path
    """The private folder, which is removed at the end."""

    def __post_init__(self) -> None:
        """Prepare the memory and the folder that the workers share."""
        entries = 2 * self.plan.workers
        self.board = StatusBoard(entries)
        for name in (METRICS, ALLOWANCES):
            (self.folder / name).mkdir()
        shares = shares_of(sorted(os.sched_getaffinity(0)), self.plan.workers)
        self.slots = [Slot(number, share) for number, share in enumerate(shares)]
        self.process = os.getpid()
        self.signals: deque[int] = deque()
        self.has_opened = self.is_stopping = False
        self.exit_code = 0
        retire_seconds = self.plan.exit_seconds + RETIRE_SECONDS
        self.replacement = Replacement(self.slots, partial(self._start, is_anew=True), retire_seconds=retire_seconds)
        self.kept = KeptSettings()
        self.reload = Reload(self.slots)

    def run(self) -> "WorkerPlace | int":
        """Supervise until all workers have ended, and return the exit code; in each worker return its place."""
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (*self._actions(), signal.SIGCHLD):
            signal.signal(number, self._note)
        gc.collect()
        gc.freeze()  # so that the collector writes no page that the workers share
        try:
            while not (self.is_stopping and not self._processes()):
                self._tick()
                select.select([wake], [], [], TICK_SECONDS)
                while select.select([wake], [], [], 0)[0]:
                    wake.recv(4096)
        except _Forked as forked:
            for end in (wake, waker):
                end.close()
            return forked.place
        finally:
            if os.getpid() == self.process:
                for process in self._processes():
                    process.kill()
                shutil.rmtree(self.folder, ignore_errors=True)
        return self.exit_code

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def _tick(self) -> None:
        actions = self._actions()
        while self.signals:
            actions.get(self.signals.popleft(), lambda: None)()
        for slot in self.slots:
            self._bury(slot)
        for process in self._processes():
            self._look(process)
        if not self.is_stopping:
            self._start_missing()
            self.replacement.step()
            self.reload.step()

    def _actions(self) -> dict[int, Callable[[], None]]:
        """Return what a signal does."""
        return {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: self.reload.request,
            signal.SIGUSR2: self.replacement.request,
        }

    def _stop(self) -> None:
        """Have all workers complete their requests and end."""
        if not self.is_stopping:
            self.is_stopping = True
            self.board.stop()
            self.plan.listener.close()  # the workers close theirs, and then nothing listens any more
            for process in self._processes():
                process.stop(signal.SIGTERM, seconds=self.plan.exit_seconds)

    def _interrupt(self) -> None:
        """Stop; the second time, have the workers cut off their requests."""
        if self.is_stopping:
            for process in self._processes():
                process.send(signal.SIGINT)
        self._stop()

    def _processes(self) -> list[WorkerProcess]:
        return [one for slot in self.slots for one in slot.processes()]

    def _bury(self, slot: Slot) -> None:
        """Take note of the processes of a place that have ended."""
        self.replacement.bury(slot)
        if slot.worker is not None and (code := slot.worker.poll()) is not None:
            worker, slot.worker = slot.worker, None
            if self.is_stopping:
                # One that was opening its bundles had nothing to complete.
                self.exit_code = self.exit_code or int(worker.has_opened and code != 0)
            else:
                self._plan_restart(slot, worker, code)

    def _plan_restart(self, slot: Slot, worker: WorkerProcess, code: int) -> None:
        """Decide when a worker that died is started again, or give up."""
        delay = slot.plan_restart(worker)
        if not self.has_opened and (code > 0 or slot.failures >= MOST_START_FAILURES):
            self._give_up(f"the first worker ended with {reason(code)} before it could serve")
        elif slot.failures >= MOST_START_FAILURES and not any(one.was_ready for one in self._processes()):
            self._give_up(f"no worker serves, and {slot.failures} of them ended at their start, one after another")
        else:
            self.board.count_restart()
            logger.error(
                "worker %d (process %d) ended with %s; it is started again in %g s",
                slot.number,
                worker.pid,
                reason(code),
                delay,
            )

    def _give_up(self, reason: str) -> None:
        logger.critical("stopped: %s", reason)
        self.exit_code = 1
        self._stop()

    def _look(self, process: WorkerProcess) -> None:
        """Kill a process that hangs."""
        was_ready = process.was_ready
        process.look()
        now = time.monotonic()
        if process.was_ready and not was_ready:
            logger.info("worker %d (process %d) is ready", process.number, process.pid)
        self.has_opened = self.has_opened or process.has_opened
        if process.silence > self.plan.heartbeat_timeout:
            logger.error("worker %d (process %d) hangs and is killed", process.number, process.pid)
            process.silence = float("-inf")
            process.kill()
        elif now > process.deadline or (now > process.started + START_SECONDS and not process.has_opened):
            logger.error("worker %d (process %d) is not done in time and is killed", process.number, process.pid)
            process.deadline = process.started = float("inf")
            process.kill()

    def _start_missing(self) -> None:
        """Start workers; the others wait for the first one, which may fill the cache of graphs for them."""
        for slot in self.slots if self.has_opened else self.slots[:1]:
            if slot.worker is None and slot.successor is None and time.monotonic() >= slot.start_at:
                slot.worker = self._start(slot)

    def _start(self, slot: Slot, *, is_anew: bool = False) -> WorkerProcess:
        """Fork a worker: it has every module already, and shares their memory.

        Unless it `is_anew`, it has the settings that the others run with.
        """
        taken = {one.entry for one in self._processes()}
        entry = min(set(range(self.board.entries)) - taken)
        place = WorkerPlace(
            number=slot.number,
            entry=entry,
            board=self.board,
            folder=self.folder,
            cores=slot.share.cores,
            threads=slot.share.threads,
            supervisor=self.process,
            kept=self.kept,
            is_anew=is_anew,
        )
        self.board.begin(entry, number=slot.number)
        pid = os.fork()
        self.board.set(entry, "pid", pid or os.getpid())
        if not pid:
            _become_worker()
            raise _Forked(place)
        return WorkerProcess(pid, board=self.board, entry=entry, number=slot.number)


def exit_seconds(drain_delay: float, exit_timeout: float) -> float:
    """Return the seconds after which a worker that was told to stop has to be killed."""
    return drain_delay + exit_timeout + LAST_WORDS_SECONDS + MARGIN_SECONDS


def _become_worker() -> None:
    """Leave what is the supervisor's: its signals, its process group and its input."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGHUP, signal.SIGUSR2):  # until there is something to reload, or to retire
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setpgid(0, 0)  # an interrupt from the terminal is the supervisor's to pass on, once
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

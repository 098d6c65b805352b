"""Trials of JSON schemas: each is first compiled in a child process, within a budget of time and memory.

llguidance bounds its own work except the search for a string that several patterns allow, which may take for ever, and
memory with it. A thread cannot be stopped; a process can.
"""

import json
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import llguidance

from serve.errors import GenerationFailed, InputError, ShuttingDown
from serve.generation.sampling import schema_worker
from serve.generation.sampling.schema_worker import OUT_OF_MEMORY

START, PATIENCE = 5.0, 5.0
"""Seconds that a process may take to start, and for each second of the budget, on a busy machine."""
OUT_OF_TIME = -getattr(signal, "SIGPROF", 0)
"""Exit status of a process that used up its CPU time."""
STOPPED = "the server is stopping, and the request's schema is not compiled; send the request to another one"
ADVICE = "simplify it: patterns that must hold together (allOf) and large counts in patterns cost most"


@dataclass(frozen=True, kw_only=True)
class CompileBudget:
    """Bounds of compiling JSON schemas."""

    seconds: float = 2.0
    """CPU time for one schema."""
    megabytes: int = 256
    """Memory of the process that compiles it."""
    processes: int = 2
    """Schemas that are compiled at a time."""
    queued: int = 32
    """Schemas that wait to be compiled; a full queue refuses more."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.megabytes < 64 or self.processes < 1 or self.queued < 0:
            raise ValueError(f"{self}: seconds above 0, 64 megabytes, 1 process and 0 queued are the least")


class Trial:
    """The trial of one schema; any thread may stop it, before it runs or while it does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: subprocess.Popen[str] | None = None
        self.cancelled = self.late = False

    def cancel(self) -> None:
        """Stop the trial because its request was abandoned."""
        self.cancelled = True
        self._kill()

    def time_out(self) -> None:
        """Stop the trial because it takes too long."""
        self.late = True
        self._kill()

    @contextmanager
    def running(self, worker: subprocess.Popen[str], seconds: float) -> Iterator[None]:
        """Kill a process after some time or on cancellation, as long as the block runs."""
        alarm = threading.Timer(seconds, self.time_out)
        with self.lock:
            self.worker = worker
        if self.cancelled:
            self._kill()
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()
            with self.lock:
                self.worker = None

    def _kill(self) -> None:
        with self.lock:
            if self.worker is not None:
                self.worker.kill()


class SchemaTrials:
    """Processes that try schemas; they start on demand and are kept for the next schema."""

    def __init__(self, budget: CompileBudget) -> None:
        self.budget = budget
        self.idle: list[subprocess.Popen[str]] = []
        weakref.finalize(self, _end_all, self.idle)

    def run(self, schema: str, trial: Trial) -> None:
        """Try a schema, serialized on one line.

        Raises:
            InputError: The schema is invalid, or compiling it exceeds the budget.
            ShuttingDown: The trial was cancelled.
            GenerationFailed: The process cannot work.
        """
        if trial.cancelled:
            raise ShuttingDown(STOPPED)
        worker = self._worker()
        with trial.running(worker, START + PATIENCE * self.budget.seconds):
            reply = _ask(worker, schema)
        if reply.endswith("\n") and not (trial.cancelled or trial.late):
            self.idle.append(worker)
            if fault := json.loads(reply):
                name = schema_worker.name_of(schema)
                raise InputError(f"{name} {fault}", name)
            return
        errors = _end(worker)
        raise self._reason(trial, worker.returncode, errors, schema_worker.name_of(schema))

    def stop(self) -> None:
        """End the idle processes; others start when they are needed again."""
        _end_all(self.idle)

    def _worker(self) -> subprocess.Popen[str]:
        with suppress(IndexError):
            while True:
                worker = self.idle.pop()
                if worker.poll() is None:
                    return worker
                _end(worker)
        return _start(self.budget)

    def _reason(self, trial: Trial, status: int, errors: str, name: str = "json_schema") -> Exception:
        """Return the error of a trial whose process has ended."""
        if trial.cancelled:
            return ShuttingDown(STOPPED)
        if trial.late or status == OUT_OF_TIME:
            return InputError(f"{name} takes more than {self.budget.seconds:g} s to compile: {ADVICE}", name)
        if status < 0 or status == OUT_OF_MEMORY:
            return InputError(f"{name} takes more than {self.budget.megabytes} MB to compile: {ADVICE}", name)
        reason = schema_worker.first_line("\n".join(reversed(errors.splitlines())))
        return GenerationFailed(f"the process that compiles JSON schemas ended with status {status}: {reason}")


def _start(budget: CompileBudget) -> subprocess.Popen[str]:
    """Return a process that compiles; isolated, so that no start-up code of its environment runs."""
    packages = Path(llguidance.__file__).parents[1]
    command = [sys.executable, "-I", "-S", schema_worker.__file__]
    try:
        return subprocess.Popen(
            [*command, str(packages), str(budget.seconds), str(budget.megabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="ascii",
            errors="replace",
        )
    except OSError as error:
        raise GenerationFailed(f"the process that compiles JSON schemas does not start: {error}") from error


def _ask(worker: subprocess.Popen[str], schema: str) -> str:
    """Return the reply to a schema, or an empty string if the process ends instead."""
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(schema + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()
    except OSError:
        return ""


def _end(worker: subprocess.Popen[str]) -> str:
    """Kill a process and return its error output."""
    worker.kill()
    with suppress(OSError, ValueError):
        return worker.communicate()[1]
    return ""


def _end_all(workers: list[subprocess.Popen[str]]) -> None:
    with suppress(IndexError):
        while True:
            _end(workers.pop())

"""The supervisor with workers that are a few lines long; with real ones in tests/reliability/test_workers.py."""

import re
import subprocess
import sys

from serve.workers.supervisor import exit_seconds

SCRIPT = """
import logging, os, signal, socket, sys, tempfile, time
from pathlib import Path
from serve.workers import slot
from serve.workers.board import WorkerState
from serve.workers.supervisor import Plan, Supervisor

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
slot.FIRST_DELAY = 0.01
listener = socket.create_server(("127.0.0.1", 0))
plan = Plan(workers=2, listener=listener, heartbeat_timeout=3.0, exit_seconds=exit_after)
place = Supervisor(plan, Path(tempfile.mkdtemp())).run()
if isinstance(place, int):
    sys.exit(place)

def tell(state):
    place.board.set(place.entry, "state", state)
    place.board.set(place.entry, "heartbeat", time.monotonic())

"""
"""A supervisor and the beginning of its workers, which may have no turn for seconds on a busy machine."""


def run(worker: str, *, exit_after: float = 30.0) -> "subprocess.CompletedProcess[str]":
    """Run workers with this code under a supervisor, whose process id is `place.supervisor`."""
    code = SCRIPT.replace("exit_after)", f"{exit_after})") + worker
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)


def test_a_first_worker_that_exits_at_its_start_ends_the_server() -> None:
    found = run("sys.exit('adamix-serve: there is no bundle')")
    assert found.returncode == 1
    first, last = found.stderr.splitlines()
    assert first == "adamix-serve: there is no bundle"
    assert last == "CRITICAL stopped: the first worker ended with exit code 1 before it could serve"


def test_a_first_worker_that_is_killed_at_its_start_is_tried_again_and_then_given_up() -> None:
    found = run("os.kill(os.getpid(), signal.SIGKILL)")
    assert found.returncode == 1
    assert found.stderr.count("ended with signal SIGKILL; it is started again in") == 4
    assert found.stderr.splitlines()[-1].startswith("CRITICAL stopped: the first worker ended with signal SIGKILL")
    assert "in 0.01 s" in found.stderr
    assert "in 0.08 s" in found.stderr, "each time it waits twice as long"


def test_a_second_worker_that_cannot_start_does_not_end_the_first() -> None:
    found = run(
        """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if place.number:
    sys.exit(1)
while place.board.restarts < 4:
    tell(WorkerState.READY)
    time.sleep(0.05)
os.kill(place.supervisor, signal.SIGTERM)
while True:
    tell(WorkerState.READY)
    time.sleep(0.05)
"""
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("worker 1 ") >= 4


def test_one_that_hangs_is_killed_and_one_that_does_not_end_in_time_as_well() -> None:
    found = run(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tell(WorkerState.READY)
if place.number == 1 and not place.board.restarts:
    time.sleep(60)
if place.number == 1:
    os.kill(place.supervisor, signal.SIGTERM)
while True:
    tell(WorkerState.READY)
    time.sleep(0.05)
""",
        exit_after=0.5,
    )
    assert re.search(r"worker 1 \(process \d+\) hangs and is killed", found.stderr)  # others too on a busy machine
    assert found.stderr.count("is not done in time and is killed") == 2
    assert found.returncode == 1


def test_the_first_worker_starts_alone() -> None:
    """It may fill the cache of graphs, which the others then map."""
    found = run(
        """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
others = [one.number for one in place.board.workers() if one.number != place.number]
print(place.number, others, flush=True)
time.sleep(0.3)
tell(WorkerState.READY)
if place.number == 1:
    os.kill(place.supervisor, signal.SIGTERM)
while True:
    tell(WorkerState.READY)
    time.sleep(0.05)
"""
    )
    assert found.stdout.splitlines() == ["0 []", "1 [0]"]
    assert found.returncode == 0


def test_the_time_to_exit_is_longer_than_that_of_a_worker() -> None:
    assert exit_seconds(5.0, 30.0) > 35.0

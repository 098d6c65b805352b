import os
import signal
import time

import pytest

from serve.workers.board import StatusBoard, WorkerState
from serve.workers.process import LONGEST_TICK, WorkerProcess


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard(1)


def forked(board: StatusBoard, *, code: int | None = None) -> WorkerProcess:
    """A child process that exits with a code, or waits."""
    board.begin(0, number=0)
    pid = os.fork()
    if not pid:
        if code is None:
            time.sleep(60)
        os._exit(code or 0)
    board.set(0, "pid", pid)
    return WorkerProcess(pid, board=board, entry=0, number=0)


def ended(process: WorkerProcess) -> int:
    end = time.monotonic() + 10
    while (code := process.poll()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return code


def test_the_code_of_its_end_frees_its_entry(board: StatusBoard) -> None:
    process = forked(board, code=3)
    assert ended(process) == 3
    assert board.workers() == []
    process.send(signal.SIGKILL)  # sent to nobody, whoever has the number now


def test_a_signal_is_a_negative_code(board: StatusBoard) -> None:
    process = forked(board)
    process.kill()
    assert ended(process) == -signal.SIGKILL


def test_silence_is_counted_from_the_last_heartbeat(board: StatusBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    process, now = forked(board), [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    board.set(0, "state", WorkerState.READY)
    board.set(0, "heartbeat", 1.0)
    process.look()
    assert process.was_ready
    for _ in range(3):
        now[0] += 0.25
        process.look()
    assert process.silence == pytest.approx(0.75)
    board.set(0, "heartbeat", 2.0)
    process.look()
    assert process.silence == 0
    now[0] += 3600  # the machine slept
    process.look()
    assert process.silence == LONGEST_TICK
    monkeypatch.undo()
    process.kill()
    ended(process)


def test_one_that_starts_needs_no_heartbeat(board: StatusBoard) -> None:
    process = forked(board)
    process.look()
    process.looked -= 100
    process.look()
    assert process.silence == 0
    process.kill()
    ended(process)

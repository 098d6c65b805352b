import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.quality import worker
from benchmarks.quality.worker import LateError, Worker

CODE = """
    import os, sys, time
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name = line.strip().rpartition("/")[2]
        if name == "slow":
            time.sleep(60)
        if name == "dead":
            sys.exit("Killed: out of memory")
        if name == "silent":
            os._exit(9)
        print("what a run prints")
        answer = f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}" if name == "who" else name
        print(answer, file=answers, flush=True)
"""
"""A stand-in for `benchmarks.quality.one` that answers with the folder's name."""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(CODE))
    monkeypatch.setattr(worker, "MODULE", "stand_in")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Worker(threads=3)
    yield made
    made.end()


def test_runs_share_a_process(one: Worker) -> None:
    assert one.carry_out(Path("runs/done"), seconds=None) is None
    first = one.carry_out(Path("runs/who"), seconds=20)
    assert first is not None
    assert first.endswith(" 3")
    assert one.carry_out(Path("runs/ValueError: no such way"), seconds=None) == "ValueError: no such way"
    assert one.carry_out(Path("runs/who"), seconds=None) == first


@pytest.mark.parametrize(
    ("folder", "error"), [("dead", "Killed: out of memory"), ("silent", "its process ended with 9")]
)
def test_a_process_that_dies_is_an_error_and_the_next_run_has_a_new_one(one: Worker, folder: str, error: str) -> None:
    assert one.carry_out(Path(folder), seconds=None) == error
    assert one.carry_out(Path("done"), seconds=None) is None


def test_a_process_that_died_between_two_runs_is_begun_anew(one: Worker) -> None:
    first = one.carry_out(Path("who"), seconds=None)
    assert first is not None
    os.kill(int(first.split()[0]), signal.SIGKILL)
    one._process.wait()  # type: ignore[union-attr]
    second = one.carry_out(Path("who"), seconds=None)
    assert second not in (None, first)


def test_a_run_that_takes_too_long_is_killed(one: Worker) -> None:
    first = one.carry_out(Path("who"), seconds=None)
    with pytest.raises(LateError):
        one.carry_out(Path("slow"), seconds=0.05)
    assert one.carry_out(Path("who"), seconds=None) != first

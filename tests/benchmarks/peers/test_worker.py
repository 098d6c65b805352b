"""Peers that stay loaded and answer jobs."""

import sys
from pathlib import Path

import pytest

from benchmarks.generate import NEW, OURS, case_of, disagreeing, ratio, timed, tokens_of
from benchmarks.peers import HERE
from benchmarks.peers.worker import working
from benchmarks.support.errors import PeerError
from benchmarks.support.rounds import Pace, Reported, Timing, measure

SCRIPT = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from answering import answer

def do(job):
    print("what a library says")
    if "fail" in job:
        raise ValueError("no such job")
    return {{"twice": 2 * job["number"]}}

answer(do)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "peer.py"
    file.write_text(SCRIPT)
    return file


def test_a_peer_answers_job_after_job_and_is_asleep_between(script: Path) -> None:
    with working(sys.executable, str(script)) as worker:
        assert [worker.ask({"number": number}) for number in (1, 2)] == [{"twice": 2}, {"twice": 4}]
        state = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"
    assert worker.process.poll() is not None


def test_a_peer_that_ends_says_why(script: Path) -> None:
    with working(sys.executable, str(script)) as worker, pytest.raises(PeerError, match="ValueError: no such job"):
        worker.ask({"fail": True})


def test_a_call_may_report_a_part_of_its_time() -> None:
    pace = Pace(rounds=1, turn_seconds=1.0, rest_seconds=0.0)
    found = measure({"case": {"side": lambda: Reported(2.0)}}, pace)
    assert found["case"]["side"].seconds == 2.0


def test_figures_are_tokens_a_second() -> None:
    assert (tokens_of(case_of(4)), tokens_of("read 128")) == (4 * NEW, 128)
    timings = {case_of(4): {"ours": Timing([1.0]), "theirs": Timing([3.0])}}
    assert ratio(timings, "ours", "theirs", 4) == 3.0
    assert ratio(timings, "ours", "absent", 4) is None
    call = timed(lambda job: {"decode": len(job["rows"])}, [[1], [2]], 5, "decode")
    assert call() == Reported(2)


def test_sides_that_write_other_tokens_are_named() -> None:
    def side(token: int):  # type: ignore[no-untyped-def]
        return lambda job: {"tokens": [[token]]}

    found = disagreeing({OURS: side(1), "genai fp32": side(2), "optimum fp32": side(1), "genai int4": side(3)}, [[3]])
    assert found == {"genai fp32": "it generates other tokens than ours in 1 of 1 rows: times do not compare"}

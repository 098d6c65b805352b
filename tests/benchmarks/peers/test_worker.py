"""Peers that stay loaded and answer jobs."""

import sys
from pathlib import Path

import pytest

from benchmarks.peers import HERE
from benchmarks.peers.worker import working
from benchmarks.support.errors import PeerError

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

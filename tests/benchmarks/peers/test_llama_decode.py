"""The program of llama.cpp's server, over one that generates 5 tokens at most."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.worker import Worker, working
from benchmarks.support.errors import PeerError
from tests.benchmarks.peers.programs import fake_environment


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "model.gguf").write_text("5")
    peer = fake_environment(tmp_path, "llama")
    with working(peer.python, "llama_decode.py", tmp_path / "model.gguf") as worker:
        yield worker


def test_the_whole_of_a_job_is_timed_and_its_tokens_are_counted(worker: Worker) -> None:
    for _ in range(2):
        found = worker.ask({"do": "write", "rows": [[1, 2], [4, 5], [6, 7]], "new": 3})
        assert found.keys() == {"whole", "generated"}
        assert found["whole"] > 0 and found["generated"] == [4, 4, 4]


@pytest.mark.parametrize(
    ("row", "new", "told"),
    [([1], 5, "5 tokens were generated, not 6"), ([1] * 641, 1, "request exceeds the available context size")],
)
def test_fewer_tokens_and_errors_of_the_server_are_errors(row: list[int], new: int, told: str, worker: Worker) -> None:
    with pytest.raises(PeerError, match=f"RuntimeError: {told}"):
        worker.ask({"do": "write", "rows": [[1, 2], row], "new": new})

"""The program of llama.cpp, over a model that adds up its sequence, with a vocabulary of 50."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.worker import Worker, working
from benchmarks.support.errors import PeerError
from tests.benchmarks.peers.programs import fake_environment


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "model.gguf").write_text("50")
    peer = fake_environment(tmp_path, "llama")
    with working(peer.python, "llama_decode.py", tmp_path / "model.gguf") as worker:
        yield worker


def test_every_row_is_written_after_its_own_prompt_and_nothing_of_the_last_job(worker: Worker) -> None:
    for _ in range(2):
        found = worker.ask({"do": "write", "rows": [[1, 2], [4, 5]], "new": 3})
        assert found.keys() == {"prefill", "decode", "tokens"}
        assert found["tokens"] == [[3, 6, 12, 24], [9, 18, 36, 72 - 50]]


def test_more_rows_than_it_has_sequences_are_an_error(worker: Worker) -> None:
    with pytest.raises(PeerError, match="RuntimeError: llama_decode failed"):
        worker.ask({"do": "write", "rows": [[1]] * 17, "new": 1})

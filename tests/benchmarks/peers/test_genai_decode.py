"""The program of onnxruntime-genai, over a model that counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.peers.worker import working
from tests.benchmarks.peers.fakes import onnxruntime_genai
from tests.benchmarks.peers.programs import fake_environment, load_program


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "genai_config.json").write_text("{}")
    (folder / "tens.onnx_adapter").write_text("10")
    return folder


def test_a_job_is_answered_with_the_tokens_after_the_prompts(model: Path, tmp_path: Path) -> None:
    job = {"do": "write", "rows": [[4, 5], [7, 8]], "new": 3}
    with working(fake_environment(tmp_path, "genai").python, "genai_decode.py", model) as worker:
        found = worker.ask(job)
        assert found.keys() == {"prefill", "decode", "tokens"}
        assert found["tokens"] == [[6, 7, 8, 9], [9, 10, 11, 12]]
        for _ in range(2):
            assert worker.ask({**job, "adapter": "tens"})["tokens"] == [[15, 25, 35, 45], [18, 28, 38, 48]]
        assert worker.ask(job)["tokens"] == found["tokens"]


def test_requests_are_served_in_batches_of_those_that_wait(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes a second. The first request is alone; the next two are there when it is done, the last is late."""
    program = load_program("genai_decode", monkeypatch, onnxruntime_genai=onnxruntime_genai)
    now, read = [100.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    class Timed(onnxruntime_genai.Generator):
        def append_tokens(self, rows):  # type: ignore[no-untyped-def]
            read.append(rows.tolist())
            super().append_tokens(rows)

        def generate_next_token(self) -> None:
            sleep(1.0)
            super().generate_next_token()

    monkeypatch.setattr(onnxruntime_genai, "Generator", Timed)
    monkeypatch.setattr(program, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=sleep))
    requests = [
        {"at": 0.0, "ids": [4], "new": 2},
        {"at": 0.5, "ids": [5, 6], "new": 1},
        {"at": 0.75, "ids": [7], "new": 3},
        {"at": 9.0, "ids": [8], "new": 1},
    ]
    found = program.Writer(str(model)).serve({"requests": requests, "batch": 2, "pad": 0})
    assert read == [[[4]], [[5, 6], [7, 0]], [[8]]]
    assert [(one["first"], one["end"]) for one in found] == [(1.0, 2.0), (3.0, 3.0), (3.0, 5.0), (10.0, 10.0)]

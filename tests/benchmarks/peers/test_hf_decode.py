"""The program of the libraries that generate as transformers does, on a tiny model in this process."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.benchmarks.peers.fakes.optimum import onnxruntime as optimum
from tests.benchmarks.peers.programs import load_program
from tests.fixtures.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_likeliest_tokens_are_written_and_none_ends_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row's likeliest token would end it."""
    model = tiny_model("llama", initializer_range=0.3)
    rows, new = [[4, 5, 6], [9, 8, 7]], 4
    ids = torch.tensor(rows)
    with torch.inference_mode():
        end = int(model(ids).logits[0, -1].argmax())
        for _ in range(new + 1):
            logits = model(ids).logits[:, -1]
            logits[:, end] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(tmp_path)

    program, ticks = load_program("hf_decode", monkeypatch), count()
    monkeypatch.setattr(program, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    found = program.Writer(str(tmp_path), "transformers").write({"rows": rows, "new": new})
    assert found == {"prefill": 1, "decode": new, "tokens": ids[:, 3:].tolist()}


def test_texts_are_scored_as_the_model_s_own_loss_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_model("llama", initializer_range=0.3), [[4, 5, 6], [9, 8]]
    model.save_pretrained(tmp_path)
    found = load_program("hf_decode", monkeypatch).Writer(str(tmp_path), "transformers").score({"rows": rows})
    assert list(map(len, found)) == [2, 1]
    for row, losses in zip(rows, found, strict=True):
        ids = torch.tensor([row])
        with torch.inference_mode():
            expected = float(model(ids, labels=ids).loss)
        assert sum(losses) / len(losses) == pytest.approx(expected, rel=1e-5)


def test_optimum_exports_the_folder_that_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load_program("hf_decode", monkeypatch, **{"optimum.onnxruntime": optimum})
    model = program.Writer("folder", "optimum").model
    assert (type(model), model.folder, model.export) == (optimum.ORTModelForCausalLM, "folder", True)

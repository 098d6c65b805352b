"""The programs of CTranslate2, over an encoder that counts."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.adamix_train.conftest import WORDS
from tests.benchmarks.peers.programs import load_program
from tests.fixtures.random_checkpoints import make_tokenizer

WEIGHT, BIAS = np.array([[1.0], [-2.0]], np.float32), np.array([0.5, 0.25], np.float32)


class Encoder:
    """Its pooled output is the sum of a row's tokens."""

    def __init__(self, folder: str, *, device: str, compute_type: str, intra_threads: int) -> None:
        assert (device, compute_type) == ("cpu", "int8") and intra_threads > 0
        self.batches: list[list[int]] = []

    def forward_batch(self, ids: list[list[int]]) -> SimpleNamespace:
        self.batches.append([len(row) for row in ids])
        return SimpleNamespace(pooler_output=np.array([[sum(row)] for row in ids], np.float32))


def made(**content: Any) -> ModuleType:
    module = ModuleType("ctranslate2")
    vars(module).update(content)
    return module


def test_texts_are_run_by_length_and_answered_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer(typed=True).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    np.savez(tmp_path / "head.npz", weight=WEIGHT, bias=BIAS)
    program = load_program("ctranslate2_classify", monkeypatch, ctranslate2=made(Encoder=Encoder))
    monkeypatch.setattr(program, "BATCH", 2)
    texts = ["the parcel was good", "bad", "it was fine"]
    classifier = program.Classifier(tmp_path, "int8", 5)
    found = classifier.classify({"texts": texts})
    cut = ["the parcel was", "bad", "it was fine"]
    sums = np.array([[sum(map(WORDS.index, ["[CLS]", *text.split(), "[SEP]"]))] for text in cut], np.float32)
    np.testing.assert_allclose(found["logits"], sums @ WEIGHT.T + BIAS)
    assert classifier.encoder.batches == [[3, 5], [5]]


def test_the_head_and_the_tokenizer_are_kept_beside_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "tokenizer.json").write_text("tokens")
    save_file({"classifier.weight": WEIGHT, "classifier.bias": BIAS}, model / "model.safetensors")
    converter = lambda folder: SimpleNamespace(convert=lambda to: Path(to).mkdir())  # noqa: E731
    ctranslate2 = made(converters=SimpleNamespace(TransformersConverter=converter))
    load_program("ctranslate2_convert", monkeypatch, ctranslate2=ctranslate2).convert(model, out)
    head = np.load(out / "head.npz")
    np.testing.assert_array_equal(head["weight"], WEIGHT)
    np.testing.assert_array_equal(head["bias"], BIAS)
    assert (out / "tokenizer.json").read_text() == "tokens"

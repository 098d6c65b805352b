"""The sides that classifiers are compared on, with a tiny model; what optimum exports is a graph of ours."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.peers import Peer
from benchmarks.support import classifier_sides
from benchmarks.support.classifier_sides import (
    INT8,
    MAKERS,
    OPTIMUM,
    OURS,
    TORCH,
    TRANSFORMERS,
    Feed,
    Logits,
    Side,
    open_sides,
    pytorch_side,
    transformers_side,
)
from benchmarks.support.errors import PeerError
from benchmarks.support.report import Absent
from tests.fixtures.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made = tiny_model("bert", hidden_size=64, intermediate_size=128, num_hidden_layers=1, initializer_range=0.3)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def feed() -> Feed:
    """Three rows, the last of which is padded."""
    random = np.random.default_rng(0)
    mask = np.ones((3, 7), np.int64)
    mask[2, 5:] = 0
    return {
        "input_ids": random.integers(3, 50, (3, 7)),
        "token_type_ids": random.integers(0, 2, (3, 7)),
        "attention_mask": mask,
    }


@pytest.fixture(scope="module")
def expected(model: Path, feed: Feed) -> Logits:
    """PyTorch's logits."""
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        logits: Logits = loaded(**{name: torch.from_numpy(ids) for name, ids in feed.items()}).logits.numpy()
    return logits


@pytest.fixture(scope="module")
def ours(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, onnx.ModelProto]:
    """Our side, and the graph that it runs."""
    scratch = tmp_path_factory.mktemp("ours")
    side = MAKERS[OURS](model, scratch)
    (file,) = scratch.glob("*.onnx")
    return side, onnx.load(file)


@pytest.mark.slow
def test_our_side_has_the_logits_of_pytorch(ours: tuple[Side, onnx.ModelProto], feed: Feed, expected: Logits) -> None:
    np.testing.assert_allclose(ours[0](feed)(), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TORCH, TRANSFORMERS])
def test_a_peer_in_fp32_has_the_logits_of_pytorch(
    name: str, model: Path, feed: Feed, expected: Logits, tmp_path: Path
) -> None:
    np.testing.assert_allclose(MAKERS[name](model, tmp_path)(feed)(), expected, atol=1e-4)


@pytest.mark.slow
def test_our_side_in_int8_is_near_to_pytorch(
    ours: tuple[Side, onnx.ModelProto],
    model: Path,
    feed: Feed,
    expected: Logits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifier_sides, "write_graph", lambda *given: onnx.save(ours[1], given[-1]))
    found = MAKERS[OURS + INT8](model, tmp_path)(feed)()
    # Every scale that can be fixed is; an export would scale by token what loses so much on weights that were drawn.
    assert 1e-4 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.slow
def test_both_sides_of_optimum_run_the_graph_that_it_exports_once(
    ours: tuple[Side, onnx.ModelProto],
    model: Path,
    feed: Feed,
    expected: Logits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, Path]] = []

    def convert(peer: Peer, script: str, folder: Path) -> Path:
        asked.append((peer.name, script, folder))
        onnx.save(ours[1], tmp_path / "model_optimized.onnx")
        return tmp_path

    monkeypatch.setattr(Peer, "convert", convert)
    exact, small = (MAKERS[name](model, tmp_path)(feed)() for name in (OPTIMUM, OPTIMUM + INT8))
    assert asked == [("optimum", "optimum_export.py", model)]
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    assert 1e-4 < np.abs(small - expected).max() < 0.1 * np.abs(expected).max()


def test_the_compiled_side_calls_what_torch_compiles(
    model: Path, feed: Feed, expected: Logits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def compiled(loaded, dynamic):  # type: ignore[no-untyped-def]
        assert dynamic is False
        return lambda **tensors: (calls.append(len(tensors)), loaded(**tensors))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    call = pytorch_side(model, tmp_path, compiled=True)(feed)
    assert not calls
    np.testing.assert_allclose(call(), expected, atol=1e-5)
    assert calls == [3]


def test_an_export_of_transformers_that_fails_is_a_peer_that_is_not_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails:
        def export(self, *_: object) -> None:
            raise RuntimeError("no such operator\nand a long explanation")

    monkeypatch.setattr(classifier_sides, "OnnxExporter", Fails)
    with pytest.raises(PeerError, match=r"^its export failed: no such operator$"):
        transformers_side(model, tmp_path)


def test_a_peer_that_is_not_there_is_named_and_the_others_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(model: Path, scratch: Path) -> Side:
        raise PeerError("its environment is not installed: make peers")

    def labels(model: Path, scratch: Path) -> Side:
        count = AutoModelForSequenceClassification.from_pretrained(model).num_labels
        return lambda feed: lambda: np.full((len(feed["input_ids"]), count), 7, np.float32)

    monkeypatch.setattr(classifier_sides, "merged_classifier", lambda: tiny_model("bert", num_labels=5))
    monkeypatch.setattr(classifier_sides, "MAKERS", {"absent": absent, "here": labels})
    sides, missing = open_sides(tmp_path)
    assert list(sides) == ["here"]
    assert sides["here"]({"input_ids": np.ones((2, 3), np.int64)})().shape == (2, 5)
    assert missing == [Absent(peer="absent", reason="its environment is not installed: make peers")]

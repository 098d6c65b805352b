from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks import mixed_lengths
from benchmarks.mixed_lengths import (
    CASE,
    CTRANSLATE2,
    CTRANSLATE2_INT8,
    GOALS,
    INT8,
    PEER_INT8,
    SORTED,
    compare_throughput,
    require_agreement,
)
from benchmarks.peers import Peer
from benchmarks.support.classifier_sides import OPTIMUM, OURS, plain_session
from benchmarks.support.errors import DisagreementError, PeerError
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Pace, Reported, Timing
from benchmarks.support.server_sides import INFINITY
from tests.adamix_train.conftest import WORDS
from tests.fixtures.random_checkpoints import make_tokenizer

pytestmark = pytest.mark.usefixtures("peer_versions")
TEXTS = ["the parcel was good", "bad", "my shop is awful", "it was fine", "great"]
FACTORS = np.array([[1.0, -0.5]], np.float32)


def test_sides_that_answer_otherwise_do_not_compare() -> None:
    good = np.array([[0.5, -0.5], [2.0, 1.0]], np.float32)
    require_agreement({OURS: good, "optimum": good, "infinity": good - np.array([[3.0], [1.0]], np.float32)})
    with pytest.raises(DisagreementError, match=r"the logits of optimum differ from ours by 1.00e-01"):
        require_agreement({OURS: good, "optimum": good + np.array([0.1, -0.1], np.float32)})


def save_sum(file: Path) -> None:
    """Write a graph whose logits are the sum of a row's tokens, padding left out, times FACTORS."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axes"], ["sum"], keepdims=1),
            helper.make_node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["float", "factors"], ["logits"]),
        ],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([1]), "axes"), numpy_helper.from_array(FACTORS, "factors")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)


class Recorded:
    """A session that notes the shapes of its batches."""

    def __init__(self, file: Path, shapes: list[tuple[int, ...]]) -> None:
        self.session, self.shapes = plain_session(file), shapes

    def run(self, outputs: list[str], feeds: dict[str, NDArray[np.int64]]) -> list[Any]:
        self.shapes.append(feeds["input_ids"].shape)
        return list(self.session.run(outputs, feeds))


def test_a_peers_answers_are_in_the_order_of_the_texts_however_they_are_batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sum(tmp_path / "model_optimized.onnx")
    make_tokenizer(typed=True).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(Peer, "convert", lambda self, script, model: tmp_path)
    monkeypatch.setattr(mixed_lengths, "BATCH", 2)
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(mixed_lengths, "plain_session", lambda file: Recorded(file, shapes))
    bundle: Any = SimpleNamespace(
        tokenizer=tmp_path / "tokenizer.json", manifest=SimpleNamespace(pad_token_id=WORDS.index("shop"))
    )
    sides = mixed_lengths.optimum(tmp_path, bundle, tmp_path, TEXTS)
    sums = [[sum(map(WORDS.index, ["[CLS]", *text.split(), "[SEP]"]))] for text in TEXTS]
    expected = np.array(sums, np.float32) @ FACTORS
    np.testing.assert_allclose(sides[OPTIMUM](), expected)
    assert shapes == [(2, 6), (2, 6), (1, 3)]
    shapes.clear()
    np.testing.assert_allclose(sides[SORTED](), expected)
    assert shapes == [(2, 3), (2, 6), (1, 6)]
    np.testing.assert_allclose(sides[PEER_INT8](), expected, rtol=0.05)


Logits = NDArray[np.float32]


def side(value: float) -> Callable[[], Logits]:
    return lambda: np.array([[value, -value]] * len(TEXTS), np.float32)


def worker(value: float) -> Any:
    return SimpleNamespace(ask=lambda job: {"seconds": 1.0, "logits": [[value, -value]] * len(job["texts"])})


def compared(monkeypatch: pytest.MonkeyPatch, opened: dict[str, Callable[..., object]], **seconds: float) -> Any:
    """Compare with peers that `opened` has the openers of; the others are not installed."""

    def absent(*_: object) -> None:
        raise PeerError("not installed: make peers")

    for name in ("trained", "exported", "in_int8", "merged_model"):
        monkeypatch.setattr(mixed_lengths, name, lambda *_: None)
    monkeypatch.setattr(mixed_lengths, "sentences", lambda count: TEXTS)
    monkeypatch.setattr(mixed_lengths, "COUNT", len(TEXTS))
    monkeypatch.setattr(mixed_lengths, "ours", lambda bundle, texts: side(1.0))
    for peer in (OPTIMUM, INFINITY, CTRANSLATE2):
        monkeypatch.setattr(mixed_lengths, peer, opened.get(peer, absent))
    timings = {name.replace("_", "-"): Timing([time]) for name, time in seconds.items()}
    monkeypatch.setattr(mixed_lengths, "measure", lambda cases, pace: {CASE: timings})
    return compare_throughput(Pace(rounds=1))


def test_the_goals_are_ratios_of_texts_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = compared(
        monkeypatch,
        {
            OPTIMUM: lambda *_: {OPTIMUM: side(1.0), SORTED: side(1.0), PEER_INT8: side(7.0)},
            INFINITY: lambda *_: {INFINITY: worker(1.0)},
            CTRANSLATE2: lambda *_: {CTRANSLATE2: worker(1.0), CTRANSLATE2_INT8: worker(1.5)},
        },
        adamix=1.0,
        adamix_int8=0.5,
        optimum=2.0,
        optimum_sorted=1.0,
        optimum_int8=1.0,
        infinity=1.25,
        ctranslate2=1.5,
        ctranslate2_int8=0.25,
    )
    found = [(goal.value, goal.met) for goal in findings.goals]
    assert found == [(2.0, True), (4.0, True), (1.25, False), (1.5, True), (0.5, False)]
    assert findings.worst == "MISSED: texts a second, adamix-int8 by ctranslate2-int8: 0.500 (goal: at least 1)"
    assert [row["texts_per_second"] for row in findings.rows] == [5.0, 10.0, 2.5, 5.0, 5.0, 4.0, 5 / 1.5, 20.0]
    assert {f"{peer}/package" for peer in (OPTIMUM, INFINITY, CTRANSLATE2)} <= findings.versions.keys()


def test_peers_that_time_themselves_are_asked_for_all_texts() -> None:
    peer: Any = SimpleNamespace(ask=lambda job: {"seconds": len(job["texts"]) / 2})
    assert mixed_lengths.timed(peer, ("a", "b", "c")) == Reported(1.5)


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        (SORTED, {OPTIMUM: lambda *_: {OPTIMUM: side(1.0), SORTED: side(2.0)}}),
        (INFINITY, {INFINITY: lambda *_: {INFINITY: worker(2.0)}}),
    ],
)
def test_a_peer_that_answers_otherwise_ends_the_benchmark(
    name: str, opener: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DisagreementError, match=f"the logits of {name} differ from ours"):
        compared(monkeypatch, opener)


def test_without_peers_no_goal_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = compared(monkeypatch, {}, adamix=1.0, adamix_int8=0.5)
    assert [(goal.value, goal.met) for goal in findings.goals] == [(None, False)] * len(GOALS)
    assert [row["side"] for row in findings.rows] == [OURS, INT8]
    reason = "not installed: make peers"
    assert findings.absent == [Absent(peer=peer, reason=reason) for peer in (OPTIMUM, INFINITY, CTRANSLATE2)]
    assert findings.worst == "no peer was there"

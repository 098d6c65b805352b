import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.adapter import WEIGHTS, Adapter
from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.classification.model_runner import ModelRunner
from serve.classification.text_tokenizer import EncodedText
from serve.errors import BundleError, ClassificationFailed, DeviceLost
from serve.prediction import Prediction
from tests.fixtures.fake_driver import LOST
from tests.fixtures.telling_adapters import OUTLIER, classifier_reference, write_classifier
from tests.serve.conftest import WORDS, Reference, card, tokenizer_sha256, write_bundle


class Session:
    """A graph with one label, whose logit is the number of a row's tokens; keeps what it was fed."""

    def __init__(self) -> None:
        self.fed: list[dict[str, Any]] = []

    def run_with_ort_values(self, names: Sequence[str] | None, feeds: Mapping[str, ort.OrtValue]) -> list[ort.OrtValue]:
        arrays = {name: value.numpy() for name, value in feeds.items()}
        self.fed.append({name: array.tolist() for name, array in arrays.items()})
        lengths = arrays["attention_mask"].sum(1, keepdims=True).astype(np.float32)
        return [ort.OrtValue.ortvalue_from_numpy(lengths)]


class FailingSession:
    """A session that fails as long as a batch has a row of `length` tokens."""

    def __init__(self, session: ort.InferenceSession, message: str, length: int) -> None:
        self.session, self.message, self.length, self.runs = session, message, length, 0

    def run_with_ort_values(self, names: Any, feeds: dict[str, ort.OrtValue]) -> Any:
        self.runs += 1
        if (feeds["attention_mask"].numpy().sum(1) == self.length).any():
            raise RuntimeError(self.message)
        return self.session.run_with_ort_values(names, feeds)


TEXTS = ("good", "bad is late", "late")
"""Three, five and three tokens."""


class Counted:
    """A session that counts its runs."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session, self.runs = session, 0

    def run_with_ort_values(self, *arguments: Any) -> list[ort.OrtValue]:
        self.runs += 1
        return self.session.run_with_ort_values(*arguments)


@pytest.mark.parametrize("typed", [True, False])
def test_short_rows_are_padded_and_a_graph_gets_the_inputs_that_it_has(typed: bool, bundle: Bundle) -> None:
    expected = {
        "input_ids": [[1, 4, 2, 7, 7], [1, 4, 8, 5, 2]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
        "token_type_ids": [[0, 0, 1, 0, 0], [0, 0, 1, 1, 1]],
    }
    if not typed:
        del expected["token_type_ids"]
    edges = [Edge(name=name, dtype="tensor(int64)", shape=["batch", "sequence"]) for name in expected]
    merged = replace(bundle, manifest=replace(bundle.manifest, shape="merged", inputs=edges, pad_token_id=7))
    session, adapter = Session(), Adapter(card("tone", labels=["length"]), {})
    rows = [EncodedText([1, 4, 2], [0, 0, 1], adapter), EncodedText([1, 4, 8, 5, 2], [0, 0, 1, 1, 1], adapter)]
    runner = ModelRunner(merged, session, None)
    assert [prediction.logits.tolist() for prediction in runner.run(rows)] == [[3.0], [5.0]]
    assert session.fed == [expected]
    assert runner.run([]) == []
    assert len(session.fed) == 1


def test_more_adapters_than_slots_answer_in_the_order_of_the_rows(bundle: Bundle, reference: Reference) -> None:
    classifier = Classifier(bundle, provider="cpu", threads=1, slots=1)
    names = ["tone", "intent", "intent", "tone", "intent"]
    texts = ["good", "the bill is very late", "bad", "late", "is it good"]
    rows = [classifier.encode(text, name, truncate=True) for text, name in zip(texts, names, strict=True)]
    found = classifier.runner.logits(rows)
    for row, name, logits in zip(rows, names, found, strict=True):
        expected = reference.logits(row.input_ids, name)
        np.testing.assert_allclose(logits[: len(expected)], expected, atol=1e-4)


@pytest.mark.parametrize("places", [[0], [6], [2, 3], [0, 1, 2, 3, 4, 5, 6]])
def test_a_row_that_the_runtime_refuses_fails_alone(
    places: list[int], classifier: Classifier, reference: Reference
) -> None:
    """The row has a token that the base has no embedding for."""
    names = ["tone", "intent", "tone", "tone", "intent", "tone", "intent"]
    rows = [
        EncodedText([1, 99 if index in places else 4, 8, 2], [0] * 4, classifier.registry.find(name))
        for index, name in enumerate(names)
    ]
    for index, (row, name, result) in enumerate(zip(rows, names, classifier.run(rows), strict=True)):
        if index in places:
            assert isinstance(result, ClassificationFailed)
            assert "the text cannot be classified" in str(result) and "idx=99 must be within" in str(result)
        else:
            np.testing.assert_allclose(result.logits, reference.logits(row.input_ids, name), atol=1e-4)
            assert result.adapter == name


def test_an_adapter_that_is_gone_from_the_disk_fails_its_rows_and_no_others(
    tmp_path: Path, reference: Reference
) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    engine = Classifier(folder, provider="cpu", threads=1, slots=1, host_adapters=1)
    engine("good", adapter="tone")
    (folder / "adapters" / "intent" / WEIGHTS).unlink()
    rows = [engine.encode("good", name, truncate=True) for name in ("tone", "intent", "tone")]
    engine.runner.executor.session = session = Counted(engine.runner.executor.session)
    first, second, third = engine.run(rows)
    assert session.runs == 1, "the others run in one batch"
    assert isinstance(second, BundleError)
    np.testing.assert_allclose(first.logits, reference.logits(rows[0].input_ids, "tone"), atol=1e-4)
    np.testing.assert_allclose(third.logits, first.logits)
    with pytest.raises(BundleError, match="adapter intent is incomplete"):
        engine(["good", "good"], adapter=["tone", "intent"])


def test_a_row_that_fails_fails_alone(classifier: Classifier, reference: Reference) -> None:
    runner, rows = classifier.runner, [classifier.encode(text, "tone", truncate=True) for text in TEXTS]
    runner.executor.session = FailingSession(runner.executor.session, "Non-zero status code", 5)  # type: ignore[assignment]
    first, failed, last = runner.run(rows)
    assert isinstance(failed, ClassificationFailed)
    for row, found in ((rows[0], first), (rows[2], last)):
        assert isinstance(found, Prediction)
        np.testing.assert_allclose(found.logits, reference.logits(row.input_ids, "tone"), atol=1e-5)


def test_a_lost_device_is_the_error_of_all_rows_after_one_run(
    classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    runner, rows = classifier.runner, [classifier.encode(text, "tone", truncate=True) for text in TEXTS]
    session = FailingSession(runner.executor.session, LOST, 5)
    runner.executor.session = session  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        found = runner.run(rows)
    assert [type(one) for one in found] == [DeviceLost] * 3
    assert (session.runs, len(caplog.records)) == (1, 1)


def test_logits_that_are_not_finite_are_the_error_of_their_row_alone(tmp_path: Path, reference: Reference) -> None:
    base = classifier_reference(reference)
    classifier = Classifier(write_bundle(tmp_path / "bundle", base, ["tone"]), provider="cpu", threads=1)
    write_classifier(tmp_path / "nan", base, "nan", 1, tokenizer_sha256(), overflows=True)
    classifier.load(tmp_path / "nan")
    asked = [("good", "tone"), (WORDS[OUTLIER], "nan"), ("good", "nan")]
    rows = [classifier.encode(text, name, truncate=True) for text, name in asked]
    first, wrong, last = classifier.run(rows)
    assert isinstance(wrong, ClassificationFailed)
    assert str(wrong) == "adapter nan gives logits that are not finite"
    assert isinstance(first, Prediction) and isinstance(last, Prediction)
    np.testing.assert_allclose(first.logits, base.logits([1, 4, 2], "tone"), atol=1e-5)

import logging
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serve.classification.classifier import Classifier
from serve.engine import Prediction
from serve.errors import ClassificationFailed, DeviceLost
from tests.fixtures.fake_driver import LOST
from tests.serve.conftest import Reference


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

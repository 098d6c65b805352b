import numpy as np
import pytest

from serve import Classifier
from tests.serve.conftest import Reference


def test_the_scores_of_windows_are_averaged(classifier: Classifier, reference: Reference) -> None:
    text = "good bad late bill the is very good bad the bill is late"
    (answer,) = classifier(text, adapter="intent", windows=True, overlap=2)
    rows = classifier.windows(text, "intent", overlap=2)
    assert len(rows) == 3
    logits = np.stack([reference.logits(row.input_ids, "intent") for row in rows])
    powers = np.exp(logits)
    np.testing.assert_allclose(answer.scores, (powers / powers.sum(1, keepdims=True)).mean(0), atol=1e-5)
    assert answer.adapter == "intent"
    assert answer.tokens == sum(len(row.input_ids) for row in rows)


def test_the_values_of_a_regression_are_averaged(mixed: Classifier, reference: Reference) -> None:
    text = "good bad late bill the is very good bad the bill is late"
    (answer,) = mixed(text, adapter="grade", windows=True)
    values = [reference.logits(row.input_ids, "grade")[0] for row in mixed.windows(text, "grade")]
    assert answer.scores.tolist() == pytest.approx([np.mean(values)], abs=1e-5)


def test_a_short_text_is_answered_as_without_windows(classifier: Classifier) -> None:
    (one,), (other,) = classifier("good", adapter="tone", windows=True), classifier("good", adapter="tone")
    assert one.logits.tolist() == other.logits.tolist()
    assert one.tokens == other.tokens == 3, "the word between two special tokens"

import numpy as np
import pytest

from serve import Classifier
from serve.classification.prediction import ensemble_of, prediction_from
from tests.serve.conftest import Reference, card


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


def test_a_label_that_no_member_gives_any_probability_has_a_finite_logit() -> None:
    """Scores of exactly 0 come from logits that are a hundred apart; JSON has no infinity."""
    of_tone = card("tone")
    members = [prediction_from(of_tone, np.array([0.0, 200.0], np.float32), tokens=3)] * 2
    found = ensemble_of(of_tone, members)
    assert np.isfinite(found.logits).all()
    np.testing.assert_allclose(found.scores, [0, 1], atol=1e-30)

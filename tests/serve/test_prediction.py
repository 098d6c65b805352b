import numpy as np
import pytest

from serve import Prediction
from serve.errors import InputError


def test_scores_are_the_softmax_of_the_logits_and_a_regressions_value_is_its_score() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    prediction = Prediction("one", "0", ["a", "b", "c"], logits)
    np.testing.assert_allclose(prediction.scores, np.exp(logits) / np.exp(logits).sum(), rtol=1e-6)
    assert prediction.label == "b"
    value = Prediction("one", "0", ["score"], logits[:1], regression=True)
    assert value.scores.tolist() == [1.0]


def test_spread_and_ensemble_are_deviation_and_mean_over_the_members() -> None:
    members = np.array([[0.5, 0.25, 0.25], [0.7, 0.25, 0.05]], np.float32)
    prediction = Prediction("one", "0", ["a", "b", "c"], np.zeros(3, np.float32), members=members)
    np.testing.assert_allclose(prediction.spread, [0.1, 0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(prediction.ensemble, [0.6, 0.25, 0.15], atol=1e-6)
    values = np.array([[1.0], [4.0], [4.0]], np.float32)
    value = Prediction("one", "0", ["score"], np.ones(1, np.float32), regression=True, members=values)
    assert (value.spread.tolist(), value.ensemble.tolist()) == ([pytest.approx(2**0.5)], [3.0])


def test_a_prediction_without_members_says_how_to_get_them() -> None:
    prediction = Prediction("one", "0", ["a", "b"], np.zeros(2, np.float32))
    for name in ("spread", "ensemble"):
        with pytest.raises(InputError, match="has no members: ask for them with members=True"):
            getattr(prediction, name)

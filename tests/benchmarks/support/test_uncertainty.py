import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.support.uncertainty import aurc, auroc, entropy


def test_the_area_is_the_mean_risk_over_every_coverage() -> None:
    uncertainty, wrong = np.array([0.4, 0.1, 0.3, 0.2]), np.array([True, False, True, False])
    assert aurc(uncertainty, wrong) == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert aurc(-uncertainty, wrong) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)


def test_equal_uncertainties_leave_out_in_order() -> None:
    assert aurc(np.zeros(2), np.array([True, False])) == pytest.approx((1 + 1 / 2) / 2)


def test_foreign_texts_are_found_as_scikit_learn_counts_them() -> None:
    random = np.random.default_rng(0)
    inside, outside = random.integers(0, 6, 40) / 5.0, random.integers(2, 9, 30) / 5.0
    expected = roc_auc_score([0] * 40 + [1] * 30, np.concatenate([inside, outside]))
    assert auroc(inside, outside) == pytest.approx(expected)


def test_entropy_is_greatest_for_equal_probabilities_and_none_for_certainty() -> None:
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist() == pytest.approx([np.log(2), 0])

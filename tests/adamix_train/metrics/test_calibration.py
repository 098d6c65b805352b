import numpy as np
import pytest

from adamix_train.metrics.calibration import calibration_error, calibration_error_of


def test_calibration_is_the_gap_of_each_bin_by_its_share() -> None:
    confidence, right = np.array([0.55, 0.6, 0.95, 1.0]), np.array([True, False, True, True])
    # Bins of 0.1: 0.55 → |0.55 - 1|, 0.6 → |0.6 - 0|, 0.95 and 1.0 → |1.95 - 2|.
    assert calibration_error(confidence, right, bins=10) == pytest.approx((0.45 + 0.6 + 0.05) / 4)


def test_probabilities_are_the_softmax_of_logits() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    confidence, right = np.array([0.9, 0.8, 0.7]), np.array([True, True, False])
    found = calibration_error_of(np.log(probabilities) + 100, np.array([0, 1, 0]))
    assert found == pytest.approx(calibration_error(confidence, right)) == pytest.approx((0.1 + 0.2 + 0.7) / 3)

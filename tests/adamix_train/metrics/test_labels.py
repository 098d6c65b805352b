import numpy as np
import pytest

from adamix_train.metrics import labels

LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]])


def test_label_metrics_by_hand() -> None:
    truth = np.array([0, 1, 1, 1])  # predicted 0, 1, 0, 1
    assert labels.accuracy(LOGITS, truth) == 0.75
    assert labels.f1(LOGITS, truth) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    true_positive, true_negative, false_positive, false_negative = 2, 1, 0, 1
    by_hand = (true_positive * true_negative - false_positive * false_negative) / np.sqrt(2 * 3 * 1 * 2)
    assert labels.matthews(LOGITS, truth) == pytest.approx(by_hand)


def test_f1_of_more_than_two_labels_is_their_mean() -> None:
    assert labels.f1(np.eye(3), np.array([0, 1, 0])) == pytest.approx((2 / 3 + 1 + 0) / 3)

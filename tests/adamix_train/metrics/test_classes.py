import numpy as np
import pytest

from adamix_train.metrics.classes import class_report

LABELS = ["x", "y", "z"]
RIGHT = np.array([0, 0, 0, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 0])
TWO_THIRDS = pytest.approx(2 / 3)


def test_results_by_label_are_those_by_hand() -> None:
    probability = np.e / (np.e + 2)  # of every predicted label, of which two in five are wrong
    report = class_report(np.eye(3)[PREDICTED], RIGHT, LABELS, "test")
    assert report.as_dict() == {
        "data": "test",
        "calibration_error": pytest.approx(abs(probability - 3 / 5)),
        "labels": {
            "x": {"precision": TWO_THIRDS, "recall": TWO_THIRDS, "f1": TWO_THIRDS, "examples": 3},
            "y": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "examples": 2},
            "z": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "examples": 0},
        },
    }
    assert report.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]

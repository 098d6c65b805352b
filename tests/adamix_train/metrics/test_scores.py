import numpy as np
import pytest

from adamix_train.metrics import scores


def test_correlations_by_hand() -> None:
    found, expected = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 2.0])
    assert scores.pearson(found, expected) == pytest.approx(np.corrcoef(found[:, 0], expected)[0, 1])
    assert scores.spearman(found, expected) == pytest.approx(0.5)
    assert scores.pearson(np.ones((3, 1)), expected) == 0.0

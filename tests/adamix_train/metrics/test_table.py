import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from adamix_train.metrics.table import METRICS

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(40, 2)), RNG.integers(2, size=40)
SCORES, EXPECTED = RNG.normal(size=(40, 1)), RNG.normal(size=40)
PREDICTED = (LOGITS[:, 1] > LOGITS[:, 0]).astype(int)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("accuracy", sklearn_metrics.accuracy_score),
        ("f1", sklearn_metrics.f1_score),
        ("matthews", sklearn_metrics.matthews_corrcoef),
    ],
)
def test_a_name_means_what_it_means_in_scikit_learn(name: str, reference: object) -> None:
    assert callable(reference)
    assert METRICS[name](LOGITS, LABELS) == pytest.approx(reference(LABELS, PREDICTED))


@pytest.mark.parametrize(("name", "reference"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)])
def test_a_correlation_is_that_of_scipy(name: str, reference: object) -> None:
    assert callable(reference)
    assert METRICS[name](SCORES, EXPECTED) == pytest.approx(reference(SCORES[:, 0], EXPECTED)[0])

import numpy as np
import pytest

from adamix_predict.metrics import LabelMetrics, ScoreMetrics


def test_metrics_of_labels_by_hand() -> None:
    metrics = LabelMetrics("tone", ["a", "b", "c"])
    for expected, predicted in zip("aaab", "aaba", strict=True):
        metrics.add(expected, {"label": predicted})
    found = metrics.results()
    # F1: a 2·2/(3+3), b 0; c is neither expected nor predicted. Matthews: (2·4 - 10) / (16 - 10).
    assert (found["accuracy"], found["rows"]) == (0.5, 4)
    assert found["macro_f1"] == pytest.approx(1 / 3)
    assert found["matthews"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    trained = pytest.importorskip("adamix_train.metrics.table").METRICS
    pytest.importorskip("sklearn")
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(50, 4)), random.integers(0, 3, 50)
    metrics = LabelMetrics("tone", list("abcd"))
    for row, label in zip(logits, labels, strict=True):
        metrics.add("abcd"[label], {"label": "abcd"[row.argmax()]})
    for name in ("accuracy", "macro_f1", "matthews"):
        assert metrics.results()[name] == pytest.approx(trained[name](logits, labels))
    scores, expected = random.integers(0, 6, 50).astype(float), random.integers(0, 6, 50).astype(float)
    regression = ScoreMetrics()
    for one, other in zip(expected, scores, strict=True):
        regression.add(str(one), {"score": other})
    for name in ("pearson", "spearman"):
        assert regression.results()[name] == pytest.approx(trained[name](scores[:, None], expected))


def test_one_label_alone_or_constant_scores_give_zero() -> None:
    metrics, scores = LabelMetrics("tone", ["a", "b"]), ScoreMetrics()
    for _ in range(3):
        metrics.add("a", {"label": "a"})
        scores.add("1", {"score": 1.0})
    assert metrics.results() == {"accuracy": 1.0, "macro_f1": 1.0, "matthews": 0.0, "rows": 3}
    assert scores.results() == {"pearson": 0.0, "spearman": 0.0, "rows": 3}

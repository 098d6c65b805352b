"""Metrics of regressions from scores (rows, 1) and expected scores (rows,), computed by SciPy."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.floating]


def pearson(scores: Scores, expected: Scores) -> float:
    """Return Pearson's correlation; 0 if either side is constant."""
    return _correlation(stats.pearsonr, scores, expected)


def spearman(scores: Scores, expected: Scores) -> float:
    """Return Spearman's rank correlation; 0 if either side is constant."""
    return _correlation(stats.spearmanr, scores, expected)


def _correlation(measure: object, scores: Scores, expected: Scores) -> float:
    scores, expected = scores.reshape(-1).astype(float), expected.reshape(-1).astype(float)
    if len(scores) < 2 or not np.ptp(scores) or not np.ptp(expected):
        return 0.0
    return float(measure(scores, expected).statistic)  # type: ignore[operator]

"""Metrics of regressions from scores (rows, 1) and expected scores (rows,), computed by SciPy.

It is imported when a metric is computed.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


def pearson(scores: Scores, expected: Scores) -> float:
    """Return Pearson's correlation; 0 if either side is constant."""
    return _correlation("pearsonr", scores, expected)


def spearman(scores: Scores, expected: Scores) -> float:
    """Return Spearman's rank correlation; 0 if either side is constant."""
    return _correlation("spearmanr", scores, expected)


def _correlation(name: str, scores: Scores, expected: Scores) -> float:
    scores, expected = scores.reshape(-1).astype(float), expected.reshape(-1).astype(float)
    if len(scores) < 2 or not np.ptp(scores) or not np.ptp(expected):
        return 0.0
    from scipy import stats

    return float(getattr(stats, name)(scores, expected).statistic)

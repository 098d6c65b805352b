"""How far a classifier's probabilities can be taken at their word."""

import numpy as np
from numpy.typing import NDArray

from adamix_train.metrics.labels import Labels, Logits

BINS = 15


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017), over `bins` of equal width: lower is better.

    Args:
        confidence: (texts,), probability of the predicted label.
        right: (texts,), True where the label is right.
        bins: Number of bins of [0, 1].
    """
    numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(numbers, confidence - right, bins)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_error_of(logits: Logits, labels: Labels) -> float:
    """Return the expected calibration error of logits (rows, labels) against label indices (rows,)."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return calibration_error(exponents.max(-1) / exponents.sum(-1), logits.argmax(-1) == labels)

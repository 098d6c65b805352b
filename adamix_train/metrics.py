"""The metrics of tasks, from logits and label indices."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of rows whose largest logit (rows, classes) is that of the label (rows,)."""
    return float(accuracy_score(labels, logits.argmax(-1)))


METRICS: dict[str, Callable[[NDArray[np.floating], NDArray[np.integer]], float]] = {
    "accuracy": accuracy,
}

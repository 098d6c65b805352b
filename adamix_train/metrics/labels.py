"""Metrics of classifiers, from logits (rows, labels) and label indices (rows,), by scikit-learn."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Logits = NDArray[np.floating]
Labels = NDArray[np.integer]


def accuracy(logits: Logits, labels: Labels) -> float:
    """Return the share of rows whose largest logit is that of the label."""
    return float(accuracy_score(labels, logits.argmax(-1)))


def f1(logits: Logits, labels: Labels) -> float:
    """Return the F1 of label 1 where there are two labels, as GLUE has it, and the mean of all labels' otherwise."""
    average = "binary" if logits.shape[-1] == 2 else "macro"
    return float(f1_score(labels, logits.argmax(-1), average=average, zero_division=0.0))


def matthews(logits: Logits, labels: Labels) -> float:
    """Return Matthews' correlation, in [-1, 1]; 0 where every row has one label."""
    return float(matthews_corrcoef(labels, logits.argmax(-1)))

"""Metrics of classifiers from logits (rows, labels) and label indices (rows,), computed by scikit-learn.

It is imported when a metric is computed.
"""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]
Labels = NDArray[np.integer]


def accuracy(logits: Logits, labels: Labels) -> float:
    """Return the share of rows whose largest logit is the label's."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, logits.argmax(-1)))


def f1(logits: Logits, labels: Labels) -> float:
    """Return the F1 of label 1 if there are two labels, as in GLUE, otherwise the mean over labels (macro F1)."""
    from sklearn.metrics import f1_score

    average = "binary" if logits.shape[-1] == 2 else "macro"
    return float(f1_score(labels, logits.argmax(-1), average=average, zero_division=0.0))


def macro_f1(logits: Logits, labels: Labels) -> float:
    """Return the mean of the labels' F1, each of which counts alike however rare it is."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, logits.argmax(-1), average="macro", zero_division=0.0))


def matthews(logits: Logits, labels: Labels) -> float:
    """Return Matthews' correlation coefficient, in [-1, 1]; 0 if all rows have the same label."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, logits.argmax(-1)))

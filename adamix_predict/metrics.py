"""Metrics that grow row by row, in numpy alone; the values are those of adamix-train."""

import math
from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adamix_predict.predictors import Values
from adamix_train.data.values import is_finite_number
from serve.bundle.adapter import AdapterCard
from serve.errors import InputError


class Metrics(Protocol):
    """Expected and predicted values of the rows so far."""

    def check(self, expected: str) -> None:
        """Raise an InputError if no prediction could be equal to `expected`."""

    def add(self, expected: str, values: Values) -> None:
        """Count one row."""

    def results(self) -> dict[str, float]:
        """Return each metric, and `rows`."""


class LabelMetrics:
    """Accuracy, macro F1 and Matthews' correlation, from counts of labels."""

    def __init__(self, adapter: str, labels: Sequence[str]) -> None:
        self.adapter, self.indices = adapter, {label: index for index, label in enumerate(labels)}
        self.counts = np.zeros((len(labels), len(labels)), np.int64)
        """(labels, labels): rows are the expected labels, columns the predicted ones."""

    def check(self, expected: str) -> None:
        """Raise an InputError if the adapter has no such label."""
        if expected not in self.indices:
            known = ", ".join(self.indices)
            raise InputError(f"label {expected!r} is none of adapter {self.adapter}, which predicts {known}")

    def add(self, expected: str, values: Values) -> None:
        """Count one row."""
        self.counts[self.indices[expected], self.indices[values["label"]]] += 1

    def results(self) -> dict[str, float]:
        """Return the metrics; none without rows. Macro F1 is the mean over labels that are expected or predicted."""
        counts = self.counts
        rows, right, expected, predicted = counts.sum(), counts.trace(), counts.sum(1), counts.sum(0)
        present = expected + predicted > 0
        f1 = 2 * counts.diagonal()[present] / (expected + predicted)[present]
        return {
            "accuracy": float(right / rows),
            "macro_f1": float(f1.mean()),
            "matthews": _matthews(*(values.astype(float) for values in (counts, expected, predicted))),
            "rows": int(rows),
        }


class ScoreMetrics:
    """Pearson's and Spearman's correlation of scores, which are kept: 16 bytes a row."""

    def __init__(self) -> None:
        self.expected, self.predicted = array("d"), array("d")

    def check(self, expected: str) -> None:
        """Raise an InputError unless it is a finite number."""
        if not is_finite_number(expected):
            raise InputError(f"score {expected!r} is not a finite number")

    def add(self, expected: str, values: Values) -> None:
        """Keep one row."""
        self.expected.append(float(expected))
        self.predicted.append(values["score"])

    def results(self) -> dict[str, float]:
        """Return the metrics; 0 if either side is constant."""
        expected, predicted = np.asarray(self.expected), np.asarray(self.predicted)
        return {
            "pearson": _pearson(expected, predicted),
            "spearman": _pearson(_ranks(expected), _ranks(predicted)),
            "rows": len(expected),
        }


def metrics_of(card: AdapterCard) -> Metrics:
    """Return the metrics of an adapter, with no rows yet."""
    return ScoreMetrics() if card.regression else LabelMetrics(card.name, card.labels)


def _matthews(counts: NDArray[np.float64], expected: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return Matthews' correlation for any number of labels (Gorodkin, 2004); 0 if a side has one label alone."""
    rows = counts.sum()
    norm = (rows**2 - predicted @ predicted) * (rows**2 - expected @ expected)
    return float((counts.trace() * rows - expected @ predicted) / math.sqrt(norm)) if norm else 0.0


def _pearson(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]

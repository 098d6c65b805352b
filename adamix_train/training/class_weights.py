"""Weights of classes in the loss, for data in which some labels are rare."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from adamix_train.training.objectives import Objective


def balanced_weights(targets: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Return scikit-learn's "balanced" weights, in the order of `labels`: examples / (labels · examples of the label).

    Their mean over `targets` is 1. A label without an example counts neither way; its weight is 1.
    """
    counts = Counter(targets)
    present = sum(1 for label in labels if counts[label])
    return [len(targets) / (present * counts[label]) if counts[label] else 1.0 for label in labels]


def with_class_weights(objective: Objective, weights: Sequence[float]) -> Objective:
    """Return a classification's objective whose loss weighs each row by its label; it is still a mean over rows."""
    return replace(objective, loss=partial(objective.loss, class_weights=torch.tensor(weights)))

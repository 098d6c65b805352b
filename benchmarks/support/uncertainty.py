"""Measures of what an uncertainty is worth: texts left out, probabilities kept, foreign texts found."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]


def aurc(uncertainty: Floats, wrong: Flags) -> float:
    """Return the area under the risk-coverage curve (Geifman et al., ICLR 2019): lower is better.

    The share of wrong labels among the k least uncertain texts, averaged over every k.

    Args:
        uncertainty: (texts,), higher for texts to leave out first; equal ones are left out in their order.
        wrong: (texts,), True where the label is wrong.
    """
    order = np.argsort(uncertainty, kind="stable")
    return float(np.mean(np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)))


def auroc(inside: Floats, outside: Floats) -> float:
    """Return the probability that a foreign text is more uncertain than one of the domain, ties counted by half."""
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, "left") + np.searchsorted(ordered, outside, "right")
    return float(below.mean() / (2 * len(inside)))


def entropy(probabilities: Floats) -> Floats:
    """Return the entropies (texts,) of distributions (texts, labels), in nats."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    entropies: Floats = -(probabilities * logs).sum(-1)
    return entropies

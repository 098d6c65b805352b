"""Predictions from logits, and over the windows of a long text."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serve.bundle.adapter import AdapterCard
from serve.engine import Prediction


def prediction_from(card: AdapterCard, logits: NDArray[np.float32]) -> Prediction:
    """Return the prediction of a row from its logits, (widest label list of the bank,)."""
    return Prediction(card.name, card.sha256, card.labels, logits[: len(card.labels)], card.regression)


def average(predictions: Sequence[Prediction]) -> Prediction:
    """Return the prediction whose scores are the mean of those of a text's windows."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    mean = np.mean([prediction.scores for prediction in predictions], axis=0)
    return replace(first, logits=mean if first.regression else np.log(mean))

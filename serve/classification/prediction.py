"""Predictions from logits, over the windows of a long text, and over the members of a mixture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serve.bundle.adapter import AdapterCard
from serve.prediction import Prediction


def prediction_from(card: AdapterCard, logits: NDArray[np.float32], *, tokens: int) -> Prediction:
    """Return the prediction of a row of so many tokens from its logits, (widest label list of the bank,)."""
    known = logits[: len(card.labels)]
    return Prediction(card.name, card.sha256, card.labels, known, card.regression, tokens=tokens)


def average(predictions: Sequence[Prediction]) -> Prediction:
    """Return the prediction whose scores are the mean of those of a text's windows."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    return replace(
        first,
        logits=_as_logits(np.mean([one.scores for one in predictions], axis=0), regression=first.regression),
        tokens=sum(one.tokens for one in predictions),
    )


def with_members(prediction: Prediction, members: Sequence[Prediction]) -> Prediction:
    """Return a mean's prediction with the scores of its members beside it."""
    return replace(prediction, members=np.stack([member.scores for member in members]))


def ensemble_of(card: AdapterCard, members: Sequence[Prediction]) -> Prediction:
    """Return the prediction of an adapter whose scores are the mean of those of its members."""
    first = members[0]
    whole = Prediction(card.name, card.sha256, card.labels, first.logits, card.regression, tokens=first.tokens)
    found = with_members(whole, members)
    return replace(found, logits=_as_logits(found.ensemble, regression=card.regression))


def _as_logits(scores: NDArray[np.float32], *, regression: bool) -> NDArray[np.float32]:
    """Return logits whose scores are these; they are finite where a probability is too small to be told from 0."""
    return scores if regression else np.log(np.maximum(scores, np.finfo(np.float32).tiny))

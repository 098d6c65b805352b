"""The answer of a classifier for one text or pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.bundle.adapter import AdapterCard


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one text or pair."""

    adapter: str
    sha256: str
    labels: Sequence[str]
    logits: NDArray[np.float32]
    regression: bool = False

    @property
    def scores(self) -> NDArray[np.float32]:
        """Probabilities (labels,), the softmax of the logits; of a regression its value (1,)."""
        if self.regression:
            return self.logits
        powers = np.exp(self.logits - self.logits.max())
        return powers / powers.sum()

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[int(self.logits.argmax())]


def average(predictions: Sequence[Prediction]) -> Prediction:
    """Return the prediction whose scores are the mean of those of a text's windows."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    mean = np.mean([prediction.scores for prediction in predictions], axis=0)
    return replace(first, logits=mean if first.regression else np.log(mean))


def _prediction(card: AdapterCard, logits: NDArray[np.float32]) -> Prediction:
    return Prediction(card.name, card.sha256, card.labels, logits[: len(card.labels)], card.regression)

"""The result of a classification, the same for every protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one text or pair."""

    adapter: str
    sha256: str
    """sha256 of the adapter's weights."""
    labels: Sequence[str]
    logits: NDArray[np.float32]
    """(labels,); for a regression the predicted value, (1,)."""
    regression: bool = False
    members: NDArray[np.float32] | None = None
    """Probabilities (modules, labels) of each module of the mixture that the adapter is the mean of; for a regression
    their values, (modules, 1). None unless the request asked for members."""
    tokens: int = 0
    """Tokens that the adapter read, special ones included, of all windows."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """Probabilities (labels,): the softmax of the logits. For a regression the predicted value, (1,)."""
        if self.regression:
            return self.logits
        powers = np.exp(self.logits - self.logits.max())
        return powers / powers.sum()

    @property
    def label(self) -> str:
        """The most probable label; of a regression its only label."""
        return self.labels[int(self.logits.argmax())]

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation over the members of each label's probability, (labels,); of a regression's value, (1,).

        It is that of the modules themselves (divided by their number, not by one less). 0 means that they agree.

        Raises:
            InputError: The prediction has no members.
        """
        return np.std(self._members, axis=0)

    @property
    def ensemble(self) -> NDArray[np.float32]:
        """Mean over the members of each label's probability, (labels,); of a regression's value, (1,).

        Raises:
            InputError: The prediction has no members.
        """
        return np.mean(self._members, axis=0)

    @property
    def _members(self) -> NDArray[np.float32]:
        if self.members is None:
            raise InputError("the prediction has no members: ask for them with members=True")
        return self.members

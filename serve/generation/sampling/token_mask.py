"""Tokens that a request lets come next: the allowed ones, no early end, and no word that it forbids."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from serve.sampling_params import SamplingParams


class TokenMask:
    """Masks of the tokens that may follow a text, beside those that a grammar allows."""

    def __init__(
        self, sampling: SamplingParams, *, ends: Collection[int], bad_words: Sequence[Sequence[int]], vocabulary: int
    ) -> None:
        """Prepare the masks of one sequence.

        Args:
            sampling: Parameters of the request.
            ends: Tokens that end a text.
            bad_words: Tokens of each word that is not generated.
            vocabulary: Number of logits.
        """
        self.min_new_tokens, self.ends = sampling.min_new_tokens, [*ends]
        self.words = [tuple(word) for word in bad_words if word]
        self.always = np.full(vocabulary, not sampling.allowed_token_ids)
        self.always[list(sampling.allowed_token_ids)] = True

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """Return a mask (vocabulary,) of the tokens that may follow the generated `tokens`."""
        mask = self.always.copy()
        if len(tokens) < self.min_new_tokens:
            mask[self.ends] = False
        for *before, last in self.words:
            if tuple(before) == tuple(tokens[len(tokens) - len(before) :] if before else ()):
                mask[last] = False
        return mask

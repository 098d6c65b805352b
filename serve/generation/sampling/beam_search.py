"""Beam search for one prompt, with the scores and the end of transformers' (`early_stopping=False`).

The score of a hypothesis is the sum of its tokens' log probabilities, after penalties, divided by its length to the
power of the length penalty. Hypotheses that end are set aside; the search is over when no running beam can become
better than the worst of as many finished ones as there are beams.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.generation.sampling.logits import Logits, log_softmax, process_logits
from serve.sampling_params import SamplingParams

UNLIKELY = np.float32(-1e9)
"""Added to the score of a beam that has ended."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A beam that has ended."""

    score: float
    tokens: list[int]
    """Generated tokens, with the end-of-sequence token if it has one."""


class BeamSearch:
    """The beams of one prompt; the search begins with one beam without tokens."""

    def __init__(
        self, prompt: Sequence[int], sampling: SamplingParams, eos_token_ids: Collection[int], max_new_tokens: int
    ) -> None:
        self.prompt, self.sampling = prompt, sampling
        self.eos_token_ids, self.max_new_tokens = list(eos_token_ids), max_new_tokens
        self.beams: list[list[int]] = [[]]
        """Generated tokens of each running beam, best first."""
        self.scores = np.zeros(1, np.float32)
        """(beams,)"""
        self.finished: list[Hypothesis] = []
        """Hypotheses that have ended, best first, at most as many as there are beams."""
        self.done = False

    def advance(self, logits: Logits) -> list[int]:
        """Extend the beams by one token.

        Args:
            logits: (beams, vocabulary) after each beam.

        Returns:
            For each of the new beams, the index of the old one that it continues.
        """
        totals = self._totals(logits)
        count, length = self.sampling.num_beams, len(self.beams[0]) + 1
        kept = _largest(totals, max(2, 1 + len(self.eos_token_ids)) * count)
        sources, tokens = (part.tolist() for part in np.divmod(kept, logits.shape[-1]))
        ended = np.isin(tokens, self.eos_token_ids) | (length == self.max_new_tokens)
        beams = [[*self.beams[source], token] for source, token in zip(sources, tokens, strict=True)]
        scale = length**self.sampling.length_penalty
        self.finished += [Hypothesis(float(totals[kept[at]]) / scale, beams[at]) for at in range(count) if ended[at]]
        self.finished = sorted(self.finished, key=lambda one: -one.score)[:count]
        running = totals[kept] + np.where(ended, UNLIKELY, np.float32(0))
        best = np.argsort(-running, kind="stable")[:count]
        self.beams, self.scores = [beams[at] for at in best], running[best]
        hopeless = len(self.finished) == count and float(self.scores[0]) / scale <= self.finished[-1].score
        self.done = bool(hopeless or ended.all())
        return [sources[at] for at in best]

    def _totals(self, logits: Logits) -> Logits:
        """Return the score of every beam with every token after it, (beams × vocabulary,)."""
        rows = [
            process_logits(row, self.prompt, beam, self.sampling)
            for row, beam in zip(log_softmax(logits), self.beams, strict=True)
        ]
        totals: Logits = (np.stack(rows) + self.scores[:, None]).ravel()
        return totals


def _largest(values: Logits, count: int) -> NDArray[np.intp]:
    """Return the indices of the largest values, largest first."""
    count = min(count, values.size)
    indices = np.sort(np.argpartition(values, values.size - count)[values.size - count :])
    return indices[np.argsort(-values[indices], kind="stable")]

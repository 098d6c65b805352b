"""Beam search for one prompt, with the scores and the end that transformers' has (`early_stopping=False`).

A text's score is the sum of its tokens' logarithmic probabilities, after penalties, by its length to the power of the
length penalty. Texts that end are set aside; the search is over when none that goes on can be better than the worst of
as many as there are beams.
"""

from collections.abc import Collection, Sequence

import numpy as np

from serve.generation.sampling.logits import Logits, processed
from serve.generation.sampling.params import Sampling

UNLIKELY = np.float32(-1e9)
"""Added to the score of a beam that has ended."""


class Beams:
    """The beams of one prompt: at first one without a token."""

    def __init__(self, prompt: Sequence[int], sampling: Sampling, ends: Collection[int], most: int) -> None:
        """Begin after a prompt; `ends` are the tokens that end a text, `most` is how many it may have."""
        self.prompt, self.sampling, self.ends, self.most = prompt, sampling, list(ends), most
        self.texts: list[list[int]] = [[]]
        self.scores = np.zeros(1, np.float32)
        self.ended: list[tuple[float, list[int]]] = []
        """Score and tokens of texts that have ended, the best first; the token that ended one is its last."""
        self.done = False

    def advance(self, logits: Logits) -> list[int]:
        """Take the logits (beams, vocabulary) after each beam; return which beam each of the new ones goes on from."""
        totals = self._totals(logits)
        count, length = self.sampling.beams, len(self.texts[0]) + 1
        kept = _largest(totals, max(2, 1 + len(self.ends)) * count)
        sources, tokens = (part.tolist() for part in np.divmod(kept, logits.shape[-1]))
        ended = np.isin(tokens, self.ends) | (length == self.most)
        texts = [[*self.texts[source], token] for source, token in zip(sources, tokens, strict=True)]
        scale = length**self.sampling.length_penalty
        self.ended += [(float(totals[kept[at]]) / scale, texts[at]) for at in range(count) if ended[at]]
        self.ended = sorted(self.ended, key=lambda item: -item[0])[:count]
        running = totals[kept] + np.where(ended, UNLIKELY, np.float32(0))
        best = np.argsort(-running, kind="stable")[:count]
        self.texts, self.scores = [texts[at] for at in best], running[best]
        full = len(self.ended) == count
        hopeless = full and float(self.scores[0]) / scale <= self.ended[-1][0]
        self.done = bool(hopeless or ended.all())
        return [sources[at] for at in best]

    def _totals(self, logits: Logits) -> Logits:
        """Return the score of every beam with every token after it (beams x vocabulary,)."""
        values = logits - logits.max(-1, keepdims=True)
        values -= np.log(np.exp(values).sum(-1, keepdims=True))
        rows = [processed(row, self.prompt, text, self.sampling) for row, text in zip(values, self.texts, strict=True)]
        totals: Logits = (np.stack(rows) + self.scores[:, None]).ravel()
        return totals


def _largest(values: Logits, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of the largest values, the largest first."""
    count = min(count, values.size)
    places = np.sort(np.argpartition(values, values.size - count)[values.size - count :])
    return places[np.argsort(-values[places], kind="stable")]

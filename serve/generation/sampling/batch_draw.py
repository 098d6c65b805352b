"""Draws for the rows of a step at once, from their candidates, where requests neither change nor report logits.

The rules are those of `draw` and `choice`, in arrays of all rows; a row that its candidates do not decide has no token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.generation.sampling.choice import SLACK, Candidates
from serve.generation.sampling.draw import HIGHEST_TEMPERATURE
from serve.sampling_params import SamplingParams

WARPERS = ("top_k", "top_p", "min_p")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CandidateTable:
    """The largest logits of each row of a step."""

    tokens: NDArray[np.int64]
    """(rows, candidates), in any order."""
    logits: NDArray[np.float32]
    """(rows, candidates)"""
    log_sum_exp: NDArray[np.float32]
    """Log-sum-exp of all logits of each row: (rows,)."""
    others: int
    """Tokens of a row that are no candidates."""

    def row(self, index: int) -> Candidates:
        """Return the candidates of one row."""
        order = self.tokens[index].argsort()
        tokens, logits = self.tokens[index][order], self.logits[index][order]
        return Candidates(tokens, logits, float(self.log_sum_exp[index]), self.others)

    def draw(
        self, rows: Sequence[int], samplings: Sequence[SamplingParams], draws: Sequence[float]
    ) -> list[int | None]:
        """Return the token that is drawn for each of some rows, or None where its candidates do not decide it.

        Args:
            rows: Rows of the table.
            samplings: Parameters of each row's request, which sample, and change no logits.
            draws: A number from 0 to 1, 1 excluded, for each row.
        """
        index = list(rows)
        ranked = _Ranked(self, index, np.array([one.temperature for one in samplings]))
        top_k, top_p, min_p = (np.array([getattr(one, name) for one in samplings]) for name in WARPERS)
        least, most, is_known = ranked.kept(top_k, top_p, min_p.astype(np.float32))
        numbers = np.array(draws)
        first, last = ranked.places(least, numbers), ranked.places(most, numbers)
        is_known &= (first == last) & (last < ranked.counts)
        return [
            int(ranked.tokens[at, place]) if known else None
            for at, (place, known) in enumerate(zip(first.tolist(), is_known.tolist(), strict=True))
        ]


class _Ranked:
    """Candidates of some rows in the order in which they are drawn, and the mass of each row's other tokens."""

    def __init__(self, table: CandidateTable, rows: list[int], temperatures: Floats) -> None:
        logits = table.logits[rows]
        divisors = np.minimum(temperatures, HIGHEST_TEMPERATURE).astype(np.float32)[:, None]
        self.tokens, self.scores = _in_order(table.tokens[rows], logits / divisors)
        self.powers = np.exp(self.scores - self.scores[:, :1])
        floor = logits.min(1, keepdims=True) if table.others else np.full_like(divisors, -np.inf)
        is_ranked = self.scores > floor / divisors
        self.counts = is_ranked.sum(1)
        """Candidates of each row that are surely above its other tokens: (rows,)."""
        masses = np.where(is_ranked, self.powers, 0).cumsum(1, dtype=np.float64)
        self.mass = masses[:, -1]
        below = np.where(is_ranked, 0, self.powers).sum(1, dtype=np.float64)
        self.masses = np.where(is_ranked, masses, np.inf)
        """Sums of the powers up to each candidate: (rows, candidates); infinite behind those that are in order."""
        least, most = _others(table, rows, temperatures)
        self.least, self.most = least + (below + self.mass), most + (below + self.mass)

    def kept(
        self, top_k: NDArray[np.int64], top_p: Floats, min_p: NDArray[np.float32]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return bounds of the mass that the warpers keep of each row, and whether they are known."""
        is_whole, least, most = self.most <= self.mass, self.least, self.most
        is_known = (self.counts > 0) & ((top_k == 0) | (top_k <= self.counts) | is_whole)
        cuts = (top_k > 0) & (top_k <= self.counts)
        lowest = np.take_along_axis(self.scores, np.maximum(top_k, 1)[:, None].clip(max=self.scores.shape[1]) - 1, 1)
        mass = self._mass_at(((self.scores >= lowest) & np.isfinite(self.masses)).sum(1) - 1)
        least, most = np.where(cuts, mass, least), np.where(cuts, mass, most)
        last = np.take_along_axis(self.powers, np.maximum(self.counts - 1, 0)[:, None], 1)[:, 0]
        shares = top_p * least, top_p * most
        otherwise = shares[0], np.minimum(most, shares[1] + last)
        reached = [self._reached(share, other) for share, other in zip(shares, otherwise, strict=True)]
        least, most = np.where(top_p < 1, reached[0], least), np.where(top_p < 1, reached[1], most)
        count = ((self.powers >= min_p[:, None]) & np.isfinite(self.masses)).sum(1)
        more = (count == self.counts) & ~is_whole
        mass = self._mass_at(count - 1)
        cuts = min_p > 0
        least = np.where(cuts, np.minimum(least, mass), least)
        most = np.where(cuts & ~more, np.minimum(most, mass), most)
        return least, most, is_known

    def places(self, kept: Floats, draws: Floats) -> NDArray[np.int64]:
        """Return the places at which draws from the kept masses fall."""
        drawn = (self.masses <= (draws * kept)[:, None]).sum(1)
        return np.minimum(drawn, (self.masses < kept[:, None]).sum(1))

    def _mass_at(self, places: NDArray[np.int64]) -> Floats:
        """Return each row's mass up to a place."""
        found: Floats = np.take_along_axis(self.masses, np.maximum(places, 0)[:, None], 1)[:, 0]
        return found

    def _reached(self, mass: Floats, otherwise: Floats) -> Floats:
        """Return each row's first mass that is not below another."""
        places = (self.masses < mass[:, None]).sum(1)
        found = self._mass_at(np.minimum(places, self.masses.shape[1] - 1))
        return np.where(places < self.counts, found, otherwise)


def _in_order(tokens: NDArray[np.int64], scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return both with the highest scores first, and of equal ones the lowest token; a graph gives most so."""
    before, behind = scores[:, :-1], scores[:, 1:]
    if ((behind < before) | ((behind == before) & (tokens[:, 1:] > tokens[:, :-1]))).all():
        return tokens, scores
    order = np.lexsort((tokens, -scores))
    return np.take_along_axis(tokens, order, 1), np.take_along_axis(scores, order, 1)


def _others(table: CandidateTable, rows: list[int], temperatures: Floats) -> tuple[Floats, Floats]:
    """Return bounds of the mass of each row's other tokens, as `Candidates` has them."""
    if not table.others:
        return np.zeros(len(rows)), np.zeros(len(rows))
    logits, log_sums, powers = table.logits[rows].astype(np.float64), table.log_sum_exp[rows], 1 / temperatures
    largest, lowest = logits.max(1), logits.min(1)
    known = np.exp(logits - largest[:, None]).sum(1)
    error = SLACK + np.spacing(np.abs(log_sums.astype(np.float32))).astype(np.float64)
    total = np.exp(log_sums.astype(np.float64) - largest)
    least, most = (np.maximum(0.0, total * by - known) for by in (1 - error, 1 + error))
    cold = powers >= 1
    concave = table.others ** (1 - np.minimum(powers, 1)) * most ** np.minimum(powers, 1)
    scaled = most * np.exp((lowest - largest) * np.maximum(powers - 1, 0))
    return np.where(powers == 1, least, 0.0), np.where(cold, scaled, concave)

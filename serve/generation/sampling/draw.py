"""A draw from scores, in the order of transformers' warpers: temperature, top-k, top-p, min-p.

Tokens are drawn in the order of their probability. Every warper keeps the first of that order, so that all it does is
to set the mass that is drawn from, and a draw from that mass needs the order only as far as the token on which it
falls. Most draws do without the other scores, in order or at all: bounds of their mass are enough where both draw the
same token. So does every mass between the two, since a larger one never draws a more probable token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.generation.sampling.logits import Logits
from serve.sampling_params import SamplingParams

RANKED = (1024, 8192)
"""Scores, about, that are put in order at the first and at the second try; all of them only if these do not decide."""
STRIDE = 32
"""Distance of the scores from which the bound of so many is estimated: to find it takes longer than all the rest."""
HIGHEST_TEMPERATURE = 1e30
"""Higher ones draw the same, and end where fp32 does."""


@dataclass(frozen=True)
class Mass:
    """Bounds of a sum of exp(score - highest score)."""

    least: float
    most: float

    def __add__(self, other: float) -> Self:
        return type(self)(self.least + other, self.most + other)


NOTHING = Mass(0.0, 0.0)


@dataclass(frozen=True)
class Ranking:
    """The highest scores, each above all that are not ranked."""

    places: NDArray[np.intp]
    """Places of the scores, highest first; of equal ones, the first place comes first."""
    scores: Logits
    """The scores in that order."""
    powers: Logits
    """exp(score - highest score) of each."""
    masses: NDArray[np.float64]
    """Sums of the powers up to each."""
    total: Mass
    """Mass of all scores, ranked or not."""

    @property
    def is_whole(self) -> bool:
        """True if the scores that are not ranked have no mass."""
        return bool(self.total.most <= self.masses[-1])


def draw_place(
    scores: Logits, sampling: SamplingParams, draw: float, *, floor: float = -np.inf, others: Mass = NOTHING
) -> int | None:
    """Return the place of a score that is drawn after the warpers, or None if what is known does not decide it.

    Args:
        scores: (count,) before temperature, the highest above `floor`.
        sampling: Parameters of the request.
        draw: A number from 0 to 1, 1 excluded.
        floor: No score that is not among `scores` is higher.
        others: Mass of these, after temperature.
    """
    temperature = np.float32(min(sampling.temperature, HIGHEST_TEMPERATURE))
    for ranking in _rankings(scores / temperature, np.float32(floor) / temperature, others):
        kept = kept_mass(ranking, sampling)
        if kept is None:
            continue
        first, last = (_place(ranking.masses, mass, draw) for mass in (kept.least, kept.most))
        if first == last < len(ranking.places):
            return int(ranking.places[first])
    return None


def rank(scores: Logits, above: float | np.float32 = -np.inf, others: Mass = NOTHING) -> Ranking:
    """Return the scores above a bound in order; the rest of them counts with the others."""
    powers, ranked = np.exp(scores - scores.max()), scores > above
    places = np.flatnonzero(ranked)
    places = places[np.argsort(-scores[places], kind="stable")]
    highest = powers[places]
    masses = highest.cumsum(dtype=np.float64)
    powers[places] = 0
    below = float(powers.sum(dtype=np.float64))
    return Ranking(places, scores[places], highest, masses, others + (below + float(masses[-1])))


def kept_mass(ranking: Ranking, sampling: SamplingParams) -> Mass | None:
    """Return the mass that top-k, top-p and min-p keep; None if top-k keeps more than is ranked."""
    powers, masses, kept = ranking.powers, ranking.masses, ranking.total
    if 0 < sampling.top_k <= len(powers):
        last = np.count_nonzero(ranking.scores >= ranking.scores[sampling.top_k - 1]) - 1
        kept = Mass(masses[last], masses[last])
    elif sampling.top_k and not ranking.is_whole:
        return None
    if sampling.top_p < 1:
        least, most = sampling.top_p * kept.least, sampling.top_p * kept.most
        # The token that reaches the share is kept; one that is not ranked has no more than the last that is.
        kept = Mass(_reached(masses, least, least), _reached(masses, most, min(kept.most, most + powers[-1])))
    if sampling.min_p:
        count = np.count_nonzero(powers >= sampling.min_p)
        more = count == len(powers) and not ranking.is_whole
        kept = Mass(min(kept.least, masses[count - 1]), kept.most if more else min(kept.most, masses[count - 1]))
    return kept


def _rankings(scores: Logits, floor: np.float32, others: Mass) -> Iterator[Ranking]:
    """Yield the highest scores in order, and then all above the floor."""
    bounds = [max(floor, _bound(scores, count)) for count in RANKED if count < scores.size]
    highest = scores.max()
    for above in [*bounds, floor]:
        if highest > above:
            yield rank(scores, above, others)


def _bound(scores: Logits, count: int) -> np.float32:
    """Return a bound that about `count` of the scores are above."""
    sample, kept = scores[::STRIDE], count // STRIDE
    bound: np.float32 = np.partition(sample, -kept)[-kept]
    return bound


def _reached(masses: NDArray[np.float64], mass: float, otherwise: float) -> float:
    """Return the first of the masses that is not below another."""
    place = np.searchsorted(masses, mass)
    return float(masses[place]) if place < len(masses) else otherwise


def _place(masses: NDArray[np.float64], kept: float, draw: float) -> int:
    """Return the place at which a draw from the kept mass falls; one behind the last if it falls behind all."""
    return int(min(np.searchsorted(masses, draw * kept, "right"), np.searchsorted(masses, kept)))

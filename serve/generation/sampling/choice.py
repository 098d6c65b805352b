"""The choice of the next token from what is known of a row: all of its logits, or its candidates, the largest ones.

| next token | candidates decide it if |
| --- | --- |
| highest score, after whatever lowers logits | it is above the lowest candidate's logit |
| drawn, `top_k` | so are as many |
| drawn, `top_p`, `min_p` or neither | the draw falls on one of them, however much mass the others may have |
| after what raises logits | never |

Candidates that do not decide give no token, and the whole row is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.generation.sampling.draw import Mass, draw_place
from serve.generation.sampling.logits import (
    Logits,
    Logprobs,
    Wanted,
    process_logits,
    rank_of,
    token_logprobs,
    top_logprobs,
)
from serve.sampling_params import EXCLUDING, SamplingParams

SLACK = 1e-4
"""Relative error of a sum of exponentials that was added in chunks, in fp32, beside the rounding of its logarithm."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Conditions of the choice of one token, beside the logits."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    """Generated tokens."""
    sampling: SamplingParams
    likeliest: int
    """Index of the largest logit."""
    allowed: NDArray[np.bool_] | None = None
    """(vocabulary,) True for tokens that a grammar allows."""
    draw: float = 0.0
    """A number from 0 to 1, 1 excluded."""


class KnownRow(Protocol):
    """Known logits of a row."""

    def choose(self, choice: Choice) -> int | None:
        """Return the next token, or None if what is known does not decide it."""
        ...

    def logprobs(self, token: int, wanted: Wanted) -> Logprobs | None:
        """Return the log probability of a token and those of the tokens that are wanted; None if one is missing."""
        ...


def choose(rows: Iterable[KnownRow], choice: Choice) -> tuple[int, Logprobs | None]:
    """Return the next token, and its log probability if the request asks for it, from the first row that has them.

    Raises:
        InputError: The request excludes every token.
    """
    wanted = wanted_logprobs(choice.sampling, choice.sampling.logprobs)
    for row in rows:
        token = row.choose(choice)
        if token is None:
            continue
        logprobs = None if wanted is None else row.logprobs(token, wanted)
        if wanted is None or logprobs is not None:
            return token, logprobs
    names = choice.sampling.given(EXCLUDING)
    message = f"{', '.join(names)}: what this excludes leaves no token that may come next"
    raise InputError(message, names[0] if names else None)


def score(rows: Iterable[KnownRow], token: int, wanted: Wanted) -> Logprobs:
    """Return the log probability of a token that is given, from the first row that has it."""
    return next(found for row in rows if (found := row.logprobs(token, wanted)) is not None)


def wanted_logprobs(sampling: SamplingParams, count: int | None) -> Wanted | None:
    """Return the tokens whose log probabilities are wanted beside a position's own; None if not even that is."""
    return None if count is None else Wanted(count, sampling.logprob_token_ids)


@dataclass(frozen=True)
class WholeRow:
    """All logits of a row."""

    logits: Logits
    """(vocabulary,)"""

    def choose(self, choice: Choice) -> int | None:
        """Return the next token, or None if none may come next."""
        sampling = choice.sampling
        if sampling.is_greedy:
            return choice.likeliest
        scores = process_logits(self.logits, choice.prompt, choice.tokens, sampling, choice.allowed)
        if not np.isfinite(scores.max()):
            return None
        return draw_place(scores, sampling, choice.draw) if sampling.is_sampling else int(scores.argmax())

    def logprobs(self, token: int, wanted: Wanted) -> Logprobs | None:
        """Return the log probability of a token and those of the tokens that are wanted."""
        return token_logprobs(self.logits, token, wanted)


@dataclass(frozen=True)
class Candidates:
    """The largest logits of a row."""

    tokens: NDArray[np.int64]
    """Their tokens, ascending (candidates,)."""
    logits: Logits
    """(candidates,)"""
    log_sum_exp: float
    """Log-sum-exp of all logits of the row."""
    others: int
    """Tokens that are no candidates."""

    def choose(self, choice: Choice) -> int | None:
        """Return the next token, or None if the candidates do not decide it."""
        sampling = choice.sampling
        if sampling.is_greedy:
            return choice.likeliest
        if sampling.raises_logits:
            return None
        scores = process_logits(self.logits, choice.prompt, choice.tokens, sampling, choice.allowed, self.tokens)
        if not scores.max() > self._floor:
            return None
        place: int | None = int(scores.argmax())
        if sampling.is_sampling:
            others = self._others(float(scores.max()), sampling)
            place = draw_place(scores, sampling, choice.draw, floor=self._floor, others=others)
        return None if place is None else int(self.tokens[place])

    def logprobs(self, token: int, wanted: Wanted) -> Logprobs | None:
        """Return the log probability of a token and those of the tokens that are wanted; None if one is missing."""
        named = np.array([token, *wanted.tokens], np.int64)
        places = self.tokens.searchsorted(named)
        if wanted.count > len(self.tokens) or (self.tokens.take(places, mode="clip") != named).any():
            return None
        values, place = self.logits.astype(np.float64) - self.log_sum_exp, int(places[0])
        if wanted.tokens:
            found = [(one, float(values[at])) for one, at in zip(wanted.tokens, places[1:], strict=True)]
            return Logprobs(float(values[place]), found, rank_of(values, place))
        best = top_logprobs(values, place, wanted.count)
        return replace(best, top=[(int(self.tokens[one]), value) for one, value in best.top])

    @property
    def _floor(self) -> float:
        """The highest logit that another token may have."""
        return float(self.logits.min()) if self.others else -np.inf

    def _others(self, highest: float, sampling: SamplingParams) -> Mass:
        """Return the mass of the other tokens, as far as it is known: exp((logit - highest score) / temperature).

        With s their mass at temperature 1, n their number, x = exp(floor) and a = 1 / temperature, it is at most
        s x**(a - 1) if a >= 1, since none exceeds x, and else n**(1 - a) s**a, since a power below 1 is concave.
        """
        if not self.others:
            return Mass(0.0, 0.0)
        largest, power = float(self.logits.max()), 1 / sampling.temperature
        known = np.exp(self.logits.astype(np.float64) - largest).sum()
        error = SLACK + float(np.spacing(np.float32(abs(self.log_sum_exp))))
        least, most = (max(0.0, np.exp(self.log_sum_exp - largest) * by - known) for by in (1 - error, 1 + error))
        scale = (largest - highest) * power
        if power >= 1:
            scale += (self._floor - largest) * (power - 1)
        else:
            most = self.others ** (1 - power) * most**power
        with np.errstate(over="ignore"):
            most *= np.exp(scale)
        return Mass(least if power == 1 and not sampling.changes_logits else 0.0, most)

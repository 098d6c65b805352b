"""Rates at which guesses come true, by how much of the text's end occurred before."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from serve.generation.prompt_lookup.ngrams import Continuation

MATCHED = (1, 2, 3, 4, 6, 9)
"""Least matched tokens of each class of guesses."""
PRIOR: Sequence[tuple[float, float]] = ((0.15, 0.4), (0.3, 0.5), (0.4, 0.6), (0.5, 0.6), (0.7, 0.8), (0.9, 0.95))
"""Rates of the first guess of each class, and of those behind a true one, before any is known."""
PRIOR_WEIGHT = 4.0
"""Guesses that they count as."""
MEMORY = 0.95
"""Weight of a guess after another one of its row."""
SHARED_WEIGHT = 8.0
"""Most guesses that the rates of earlier rows count as in a new row."""


@dataclass
class Rate:
    """A share of true guesses, old ones with less weight."""

    true: float
    all: float

    @property
    def value(self) -> float:
        """The share."""
        return self.true / self.all

    def add(self, *, is_true: bool) -> None:
        """Count a guess."""
        self.true = self.true * MEMORY + is_true
        self.all = self.all * MEMORY + 1

    def copy(self) -> "Rate":
        """Return a rate to begin another row with."""
        scale = min(1.0, SHARED_WEIGHT / self.all)
        return Rate(self.true * scale, self.all * scale)


def _class_of(guess: Continuation) -> int:
    return bisect_right(MATCHED, guess.matched) - 1


def _prior(place: int) -> list[Rate]:
    return [Rate(rates[place] * PRIOR_WEIGHT, PRIOR_WEIGHT) for rates in PRIOR]


@dataclass
class Acceptance:
    """Rates of one row, or of all rows of an adapter."""

    first: list[Rate] = field(default_factory=lambda: _prior(0))
    """Rates of the first guess, by the classes of `MATCHED`."""
    further: list[Rate] = field(default_factory=lambda: _prior(1))
    """Rates of a guess behind a true one."""

    def copy(self) -> "Acceptance":
        """Return the rates that another row begins with."""
        return Acceptance([one.copy() for one in self.first], [one.copy() for one in self.further])

    def note(self, guess: Continuation, tokens: Sequence[int]) -> None:
        """Count a guess, whether it was verified or not, by the tokens that came."""
        place = _class_of(guess)
        for index, (guessed, token) in enumerate(zip(guess.tokens, tokens, strict=False)):
            rates = self.further if index else self.first
            rates[place].add(is_true=guessed == token)
            if guessed != token:
                return

    def expected(self, guess: Continuation) -> list[float]:
        """Return the tokens that a step is expected to give with 0, 1, … guesses."""
        place = _class_of(guess)
        first, further = self.first[place].value, self.further[place].value
        found, share = [1.0], first
        for _ in guess.tokens:
            found.append(found[-1] + share)
            share *= further
        return found

"""Time of a step by the tokens that it runs: what it has lately been, and until that is known what it was elsewhere."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

KNOWN, KEPT = 4, 16
"""Steps from which a time is known, and the latest ones that it is the shortest of."""
FLAT: Sequence[float] = (1.0, 1.11, 1.19, 1.21, 1.25, 1.28, 1.39, 1.5)
STEEP: Sequence[float] = (1.0, 1.2, 1.57, 1.81, 2.15, 2.4, 2.7, 2.98)
FLATTEST: Sequence[float] = (1.0, 1.0, 1.03, 1.04, 1.09, 1.11, 1.38, 1.4)
RELATIVE: dict[str, Sequence[float]] = {"fp32": FLAT, "w8a8": FLATTEST}
"""Time of a step with 1, 2, … tokens, one with one token being 1, by precision; `STEEP` in others.

SmolLM2 on one core of an EPYC with VNNI, w8a8 on two: reading the weights of fp32 and w8a8 takes most of the time,
which more tokens share, while four bits a weight are read in less time than is computed with them."""


class StepCosts:
    """Times of steps of a model."""

    def __init__(self, precision: str) -> None:
        self.relative = RELATIVE.get(precision, STEEP)
        self.alone: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        """Seconds of the latest steps of one row, by their tokens."""
        self.together: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        """Seconds of the latest steps of a token of every row, by rows."""

    @contextmanager
    def timed(self, *, rows: int, tokens: int) -> Iterator[None]:
        """Count the time of a step of `rows` rows with so many tokens each; one of the two is 1."""
        begin = time.thread_time()
        yield
        (self.alone[tokens] if rows == 1 else self.together[rows]).append(time.thread_time() - begin)

    def row(self, tokens: int) -> float:
        """Return the cost of so many tokens of one row, in steps of one token."""
        return self._cost(self.alone, tokens)

    def batch(self, rows: int) -> float:
        """Return the cost of a token of each of `rows` rows, in the same unit."""
        return self._cost(self.alone if rows == 1 else self.together, rows)

    def _cost(self, times: dict[int, deque[float]], count: int) -> float:
        known, one = times.get(count, ()), self.alone.get(1, ())
        if count > 1 and len(known) >= KNOWN and len(one) >= KNOWN:
            return max(1.0, min(known) / min(one))
        return self._expected(count)

    def _expected(self, count: int) -> float:
        """Return the cost as it was elsewhere; behind the end of the table it rises as at the end."""
        last = len(self.relative) - 1
        rise = self.relative[last] - self.relative[last - 1]
        return self.relative[min(count - 1, last)] + rise * max(0, count - 1 - last)

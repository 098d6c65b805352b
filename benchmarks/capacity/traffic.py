"""Traffic of many tenants: who asks, when, and with how many tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RANKS = {8: 0.6, 16: 0.2, 32: 0.12, 64: 0.05, 128: 0.03}
"""Shares of tenants by the rank of their adapters."""


@dataclass(frozen=True, slots=True)
class Request:
    """One text of a tenant."""

    time: float
    tenant: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """Tenants, the most popular first."""

    count: int
    exponent: float = 1.0
    """Exponent of Zipf: the popularity of the n-th tenant is n to the power of minus this."""
    ranks: Sequence[int] = ()
    """Rank of each tenant's adapter."""

    @property
    def shares(self) -> np.ndarray:
        """Share of each in the requests, (tenants,)."""
        weights = np.arange(1, self.count + 1, dtype=float) ** -self.exponent
        return weights / weights.sum()


def tenants_of(count: int, ranks: dict[int, float] | None = None, *, exponent: float = 1.0) -> Tenants:
    """Return tenants whose ranks have these shares; without, all have rank 8."""
    given = ranks or {8: 1.0}
    drawn = np.random.default_rng(1).choice(list(given), count, p=list(given.values()))
    return Tenants(count=count, exponent=exponent, ranks=drawn.tolist())


def poisson(tenants: Tenants, rate: float, seconds: float, lengths: Sequence[int], *, seed: int = 0) -> list[Request]:
    """Return requests at random times, `rate` a second on average, with lengths drawn from these."""
    random = np.random.default_rng(seed)
    count = random.poisson(rate * seconds)
    times = np.sort(random.uniform(0, seconds, count))
    who = random.choice(tenants.count, count, p=tenants.shares)
    tokens = random.choice(np.asarray(lengths), count)
    return [Request(*one) for one in zip(times.tolist(), who.tolist(), tokens.tolist(), strict=True)]

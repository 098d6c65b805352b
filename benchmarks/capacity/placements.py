"""Ways to choose the replica of a request, each of which a router can follow with what it knows."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.capacity.simulation import Placement, Replica
from benchmarks.capacity.traffic import Request, Tenants

LEAST_SPILL = 4
"""Requests that a replica may always have before those of its adapters go to the next one."""
SPILL_FACTOR = 1.25
"""Requests that it may have, by the mean over all replicas, plus one: the bound that consistent hashing has."""


def random_choice(tenants: Tenants, replicas: int) -> Placement:
    """Take any replica."""
    draw = random.Random(0)
    return lambda request, all_replicas: draw.randrange(len(all_replicas))


def two_choices(tenants: Tenants, replicas: int) -> Placement:
    """Take the less loaded of two random replicas, as Ray Serve does by default."""
    draw = random.Random(0)
    return lambda request, all_replicas: _less_loaded(draw, range(len(all_replicas)), all_replicas)


@dataclass(kw_only=True)
class Multiplexed:
    """The less loaded of two replicas that have the adapter, as Ray Serve's multiplexing does.

    Without one: of two of those that have the fewest adapters.
    """

    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def __call__(self, request: Request, replicas: Sequence[Replica]) -> int:
        """Return a replica."""
        tenant = request.tenant
        having = [index for index, one in enumerate(replicas) if tenant in one.loaded or tenant in one.loading]
        if not having:
            fewest = min(len(one.loaded) + len(one.loading) for one in replicas)
            having = [index for index, one in enumerate(replicas) if len(one.loaded) + len(one.loading) == fewest]
        return _less_loaded(self.draw, having, replicas)


@dataclass(kw_only=True)
class Bound:
    """The bound of a group's replicas, read again after some requests: a router's knowledge is a little old too."""

    left: int = 0
    mean: float = 0.0

    def next(self, group: Sequence[int], replicas: Sequence[Replica], *, least: float, factor: float) -> float:
        """Return the bound for a request."""
        self.left -= 1
        if self.left < 0:
            self.left = len(group) // 4
            self.mean = sum(replicas[index].outstanding for index in group) / len(group)
        return max(least, factor * self.mean + 1)


@dataclass(kw_only=True)
class Affinity:
    """The first of the replicas, in an order that hashes give an adapter, that has fewer requests than a bound."""

    least: float = LEAST_SPILL
    factor: float = SPILL_FACTOR
    """The bound is `least`, or `factor` times the mean and one more where that is higher."""
    groups: dict[int, Sequence[int]] = field(default_factory=dict)
    """Replicas of the adapters of each rank; empty lets all have all."""
    ranks: Sequence[int] = ()
    bounds: dict[int, Bound] = field(default_factory=dict)
    """Bounds by the first replica of a group."""

    def __call__(self, request: Request, replicas: Sequence[Replica]) -> int:
        """Return a replica."""
        group = self.groups[self.ranks[request.tenant]] if self.groups else range(len(replicas))
        bound = self.bounds.setdefault(group[0], Bound()).next(group, replicas, least=self.least, factor=self.factor)
        least, found = math.inf, group[0]
        for index in _order(request.tenant, group):
            outstanding = replicas[index].outstanding
            if outstanding < bound:
                return index
            if outstanding < least:
                least, found = outstanding, index
        return found


def _order(tenant: int, group: Sequence[int]) -> Iterator[int]:
    """Yield a group's replicas in the order of a tenant: steps of one length, which meet every replica once."""
    count, draw = len(group), random.Random(tenant)
    place, step = draw.randrange(count), draw.randrange(count)
    while math.gcd(step, count) != 1:
        step += 1
    for _ in range(count):
        yield group[place]
        place = (place + step) % count


def by_rank(tenants: Tenants, replicas: int) -> Placement:
    """Affinity among replicas that hold adapters of similar rank alone, as LoRAServe places them.

    Ranks get replicas in proportion to their requests, each at least one; neighbours share where there are too few.
    """
    shares = tenants.shares
    ranks = sorted(set(tenants.ranks))
    load = {rank: float(shares[np.array(tenants.ranks) == rank].sum()) for rank in ranks}
    groups, start = {}, 0.0
    for rank in ranks:
        end = start + load[rank] * replicas
        first, last = int(start), max(int(start) + 1, round(end))
        groups[rank] = range(min(first, replicas - 1), min(last, replicas))
        start = end
    return Affinity(groups=dict(groups), ranks=tenants.ranks)


def _less_loaded(draw: random.Random, among: Sequence[int], replicas: Sequence[Replica]) -> int:
    first, second = draw.choice(among), draw.choice(among)
    return min(first, second, key=lambda index: replicas[index].outstanding)


PLACEMENTS: dict[str, Callable[[Tenants, int], Placement]] = {
    "random": random_choice,
    "two choices": two_choices,
    "multiplexed": lambda tenants, replicas: Multiplexed(),
    "hash": lambda tenants, replicas: Affinity(least=math.inf),
    "affinity, fixed bound": lambda tenants, replicas: Affinity(least=8, factor=0),
    "affinity": lambda tenants, replicas: Affinity(),
    "affinity by rank": by_rank,
}
"""Placements by name; a new one is an entry here."""

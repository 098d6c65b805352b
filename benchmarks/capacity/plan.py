"""Replicas, memory and waiting times for tenants and rates: each the smallest fleet whose p99 is within a limit."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.placements import PLACEMENTS
from benchmarks.capacity.simulation import Outcome, Placement, Replica, simulate
from benchmarks.capacity.traffic import Request, Tenants, poisson, tenants_of

PLACEMENT = "affinity"
P99_LIMIT = 0.1
"""Seconds within which 99 of 100 requests are answered."""
GROWTH = 1.08
"""Growth of a fleet that is too small."""
MOST_REQUESTS = 100_000
"""Requests of one simulation; with more a second it covers less time."""
SECONDS = 12.0
SLOTS, MOST = 256, 1024
FLEETS = (
    (100, 100),
    (2_000, 100),
    (2_000, 1_000),
    (20_000, 1_000),
    (20_000, 10_000),
    (100_000, 10_000),
    (100_000, 50_000),
)
"""Tenants and requests a second."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A plan for some tenants and a rate."""

    tenants: int
    rate: float
    replicas: int
    host_bytes: float
    """Memory for adapters in one replica, those in slots twice."""
    outcome: Outcome


def plan(tenant_count: int, rate: float, costs: Costs, lengths: Sequence[int]) -> Fleet:
    """Return the smallest fleet, found by letting it grow."""
    tenants = tenants_of(tenant_count)
    least = rate * costs.batch([round(statistics.mean(lengths))], width=8, slot_writes=0)
    replicas = max(1, math.ceil(least))
    while True:
        outcome = run(PLACEMENT, tenants, rate, replicas, costs, lengths)
        if outcome.p99 <= P99_LIMIT:
            break
        replicas = max(replicas + 1, math.ceil(replicas * GROWTH))
    held = min(MOST, tenant_count) + min(SLOTS, tenant_count)
    return Fleet(
        tenants=tenant_count, rate=rate, replicas=replicas, host_bytes=held * 8 * costs.rank_bytes, outcome=outcome
    )


def run(
    placement: str,
    tenants: Tenants,
    rate: float,
    replicas: int,
    costs: Costs,
    lengths: Sequence[int],
    *,
    slots: int = SLOTS,
    most: int = MOST,
    seconds: float = SECONDS,
) -> Outcome:
    """Return the outcome of a fleet whose replicas begin with the adapters that they would be sent most.

    The first half of its time is not counted.
    """
    seconds = min(seconds, MOST_REQUESTS / rate)
    requests = poisson(tenants, rate, seconds, lengths)
    fleet = [Replica(slots=slots, most=most) for _ in range(replicas)]
    place = PLACEMENTS[placement](tenants, replicas)
    _fill(fleet, place, tenants)
    return simulate(requests, fleet, place, costs, tenants, warm_up=seconds / 2)


def _fill(fleet: Sequence[Replica], place: Placement, tenants: Tenants) -> None:
    """Load the most popular adapters, the least of them first, where they are sent while nothing is busy."""
    for tenant in reversed(range(min(tenants.count, len(fleet) * fleet[0].most))):
        fleet[place(Request(0.0, tenant, 1), fleet)].hold(tenant, tenants.ranks[tenant])

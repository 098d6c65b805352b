"""The replicas that the requests of an adapter go to: consistent hashing with bounded loads.

Each adapter has an order of the replicas of its own, by hashes, so that every router has the same without asking. Its
requests go to the first one, and past those that have more than their share of the requests: a replica that comes or
goes moves its own adapters alone, and an adapter that many ask for has as many replicas as it needs. Measured by
`benchmarks.capacity`: with a bound that does not follow the load, replicas that are all busy send each other's adapters
around, and each load of an adapter makes them busier.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

LEAST = 4
"""Requests that a replica may have in any case before those of its adapters go to the next one."""
FACTOR = 1.25
"""Requests that it may have, by the mean over all replicas; one more is allowed."""
MAX_HASHES = 65_536
"""Hashes of an adapter and a replica that are kept."""


def order(adapter: str, replicas: Iterable[str]) -> list[str]:
    """Return replicas in the order of an adapter; without one of them the others keep theirs."""
    return sorted(replicas, key=lambda replica: _hash(adapter, replica))


def preferred(
    adapter: str, replicas: Iterable[str], loads: Mapping[str, int], *, least: int = LEAST, factor: float = FACTOR
) -> list[str]:
    """Return the order of an adapter, with the replicas that have less than their bound of requests first.

    Args:
        adapter: Name of the adapter.
        replicas: Ids of the replicas.
        loads: Requests that replicas have, as far as they are known.
        least: Requests that are never too many.
        factor: The bound of a replica, by the mean over all.
    """
    ordered = order(adapter, replicas)
    bound = max(least, factor * sum(loads.get(one, 0) for one in ordered) / max(1, len(ordered)) + 1)
    free = [one for one in ordered if loads.get(one, 0) < bound]
    full = sorted((one for one in ordered if loads.get(one, 0) >= bound), key=lambda one: loads[one])
    return [*free, *full]


@lru_cache(maxsize=MAX_HASHES)
def _hash(adapter: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{adapter}\0{replica}".encode(), digest_size=8).digest()

"""The cores of each worker."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A worker's part of a machine."""

    cores: Sequence[int]
    """Cores that it is pinned to; empty where there are fewer cores than workers."""
    threads: int
    """Threads of its runs."""


def shares_of(cores: Sequence[int], workers: int) -> list[Share]:
    """Return each worker's share of the cores, neighbours together; the first ones have one more where some are left.

    Args:
        cores: Cores that the server may use.
        workers: Number of workers.
    """
    if len(cores) < workers:
        return [Share((), 1)] * workers
    size, more = divmod(len(cores), workers)
    ends = [size * number + min(number, more) for number in range(workers + 1)]
    return [Share(tuple(cores[first:end]), end - first) for first, end in itertools.pairwise(ends)]

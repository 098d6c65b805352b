"""A simulation of replicas that hold some of the adapters, event by event."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.traffic import Request, Tenants
from serve.limits import BatchLimits

LIMITS = BatchLimits()


@dataclass(kw_only=True)
class Replica:
    """One server on one core. Loading an adapter takes the core as a batch does, and in turn with batches."""

    slots: int
    most: int
    """Adapters that are loaded at a time."""
    width: int = 1
    waiting: deque[Request] = field(default_factory=deque)
    """Requests whose adapter is loaded."""
    loading: OrderedDict[int, list[Request]] = field(default_factory=OrderedDict)
    """Requests by the tenant whose adapter has to be loaded first."""
    loaded: OrderedDict[int, None] = field(default_factory=OrderedDict)
    in_slots: OrderedDict[int, None] = field(default_factory=OrderedDict)
    outstanding: int = 0
    busy: bool = False
    loads_next: bool = True
    worked: float = 0.0
    loads: int = 0
    slot_writes: int = 0

    def arrive(self, request: Request) -> None:
        """Queue a request, behind the loading of its adapter if that is missing."""
        self.outstanding += 1
        if request.tenant in self.loaded:
            self.loaded.move_to_end(request.tenant)
            self.waiting.append(request)
        else:
            self.loading.setdefault(request.tenant, []).append(request)

    def hold(self, tenant: int, rank: int) -> None:
        """Load an adapter into a slot before the simulation, unless it is there."""
        if tenant not in self.loaded:
            self.loaded[tenant] = None
            self._place(tenant)
            self._forget()
            self.width = max(self.width, rank)

    def begin(self, costs: Costs, tenants: Tenants) -> tuple[float, list[Request]]:
        """Begin the next piece of work; return its seconds and the requests that it completes."""
        self.busy = True
        loads = bool(self.loading) and (self.loads_next or not self.waiting)
        self.loads_next = not loads
        seconds, done = (self._load(costs, tenants), []) if loads else self._batch(costs)
        self.worked += seconds
        return seconds, done

    def _load(self, costs: Costs, tenants: Tenants) -> float:
        tenant, requests = self.loading.popitem(last=False)
        self.loaded[tenant] = None
        self.waiting.extend(requests)
        self.width = max(self.width, tenants.ranks[tenant])
        self._forget()
        self.loads += 1
        return costs.load + self._place(tenant) * (costs.slot + self.width * costs.slot_rank)

    def _batch(self, costs: Costs) -> tuple[float, list[Request]]:
        """Take the oldest requests that fit a batch."""
        batch: list[Request] = []
        longest = 0
        while self.waiting and len(batch) < LIMITS.max_batch_requests:
            longest = max(longest, self.waiting[0].tokens)
            if batch and longest * (len(batch) + 1) > LIMITS.max_batch_tokens:
                break
            batch.append(self.waiting.popleft())
        writes = sum(self._place(tenant) for tenant in {one.tenant for one in batch})
        return costs.batch([one.tokens for one in batch], width=self.width, slot_writes=writes), batch

    def _forget(self) -> None:
        """Unload the adapter that was used least recently if there are too many."""
        if len(self.loaded) > self.most:
            gone, _ = self.loaded.popitem(last=False)
            self.in_slots.pop(gone, None)

    def _place(self, tenant: int) -> int:
        """Give an adapter a slot; return the number of writes that this takes."""
        if tenant in self.in_slots:
            self.in_slots.move_to_end(tenant)
            return 0
        if len(self.in_slots) >= self.slots:
            self.in_slots.popitem(last=False)
        self.in_slots[tenant] = None
        self.slot_writes += 1
        return 1


class Placement(Protocol):
    """Chooses the replica of a request."""

    def __call__(self, request: Request, replicas: Sequence[Replica]) -> int:
        """Return the number of a replica."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of the requests after the warm-up."""

    p50: float
    p99: float
    """Seconds from arrival to result."""
    rate: float
    """Results a second."""
    busiest: float
    mean_busy: float
    """Share of the time that the busiest replica, and all on average, worked."""
    slot_writes: float
    loads: float
    """Slot writes and loads of adapters for each request."""
    widths: tuple[int, ...]
    """Width of each replica's bank at the end."""


def simulate(
    requests: Sequence[Request],
    replicas: Sequence[Replica],
    place: Placement,
    costs: Costs,
    tenants: Tenants,
    *,
    warm_up: float,
) -> Outcome:
    """Serve requests, in the order of their times; those before `warm_up` are not counted."""
    ends: list[tuple[float, int, list[Request]]] = []
    done: list[tuple[float, float]] = []
    counted = (0, 0, [0.0] * len(replicas))

    def begin(index: int, now: float) -> None:
        seconds, batch = replicas[index].begin(costs, tenants)
        heapq.heappush(ends, (now + seconds, index, batch))

    def finish() -> None:
        now, index, batch = heapq.heappop(ends)
        replica = replicas[index]
        replica.outstanding -= len(batch)
        done.extend((one.time, now) for one in batch)
        replica.busy = False
        if replica.waiting or replica.loading:
            begin(index, now)

    is_warm = False
    for request in requests:
        while ends and ends[0][0] <= request.time:
            finish()
        if not is_warm and request.time >= warm_up:
            is_warm, counted = True, _counts(replicas)
        index = place(request, replicas)
        replicas[index].arrive(request)
        if not replicas[index].busy:
            begin(index, request.time)
    last = requests[-1].time
    after = _counts(replicas)
    while ends:
        finish()
    return _outcome(done, replicas, counted, after, warm_up=warm_up, last=last)


def _counts(replicas: Sequence[Replica]) -> tuple[int, int, list[float]]:
    slot_writes = sum(one.slot_writes for one in replicas)
    return slot_writes, sum(one.loads for one in replicas), [one.worked for one in replicas]


def _outcome(
    done: list[tuple[float, float]],
    replicas: Sequence[Replica],
    before: tuple[int, int, list[float]],
    after: tuple[int, int, list[float]],
    *,
    warm_up: float,
    last: float,
) -> Outcome:
    latencies = np.array([end - start for start, end in done if start >= warm_up])
    span = last - warm_up
    busy = [(late - early) / span for early, late in zip(before[2], after[2], strict=True)]
    return Outcome(
        p50=float(np.quantile(latencies, 0.5)),
        p99=float(np.quantile(latencies, 0.99)),
        rate=sum(warm_up <= end <= last for _, end in done) / span,
        busiest=max(busy),
        mean_busy=sum(busy) / len(busy),
        slot_writes=(after[0] - before[0]) / len(latencies),
        loads=(after[1] - before[1]) / len(latencies),
        widths=tuple(one.width for one in replicas),
    )

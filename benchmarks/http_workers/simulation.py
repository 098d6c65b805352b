"""Cores that are shared by Python, of which each process runs one piece at a time, and by batches."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_TOKENS, MOST_ROWS = 512, 64
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Processor seconds."""

    http: float
    """HTTP and JSON of a request."""
    queue: float
    """Tokens, the queue and the result of a request, beside HTTP."""
    hop: float
    """A request between two processes, on either side."""
    run: float
    token: float


@dataclass(kw_only=True)
class Lane:
    """The Python of a process: one piece of work at a time, in order."""

    waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    is_busy: bool = False


@dataclass(kw_only=True)
class Pool:
    """An engine: its texts wait for a batch, and each batch takes a core."""

    texts: deque[Callable[[], None]] = field(default_factory=deque)
    running: int = 0
    streams: int


class Machine:
    """Cores, the lanes and pools on them, and a clock."""

    def __init__(self, cores: int, tokens: int, costs: Costs) -> None:
        self.free, self.tokens, self.costs = cores, tokens, costs
        self.now, self.number = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.lanes: list[Lane] = []
        self.pools: list[Pool] = []

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call something later."""
        self.number += 1
        heapq.heappush(self.events, (time, self.number, call))

    def run(self) -> None:
        """Go on until nothing is left to do."""
        while self.events:
            self.now, _, call = heapq.heappop(self.events)
            call()
            self._begin()

    def _begin(self) -> None:
        """Give free cores to Python first, then to batches."""
        for lane in self.lanes:
            if self.free and lane.waiting and not lane.is_busy:
                seconds, then = lane.waiting.popleft()
                lane.is_busy = True
                self._take(seconds, lambda lane=lane, then=then: self._end_lane(lane, then))  # type: ignore[misc]
        for pool in self.pools:
            while self.free and pool.texts and pool.running < pool.streams:
                size = min(len(pool.texts), MOST_ROWS, max(1, MOST_TOKENS // self.tokens))
                batch = [pool.texts.popleft() for _ in range(size)]
                pool.running += 1
                seconds = self.costs.run + size * self.tokens * self.costs.token
                self._take(seconds, lambda pool=pool, batch=batch: self._end_batch(pool, batch))  # type: ignore[misc]

    def _take(self, seconds: float, then: Callable[[], None]) -> None:
        self.free -= 1

        def end() -> None:
            self.free += 1
            then()

        self.at(self.now + seconds, end)

    def _end_lane(self, lane: Lane, then: Callable[[], None]) -> None:
        lane.is_busy = False
        then()

    def _end_batch(self, pool: Pool, batch: Sequence[Callable[[], None]]) -> None:
        pool.running -= 1
        for then in batch:
            then()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results a second, and seconds of a request."""

    rate: float
    p50: float
    p99: float


def simulate(kind: str, cores: int, tokens: int, clients: int, costs: Costs, *, requests: int = 6000) -> Outcome:
    """Return the outcome of clients that each send their next request when they have the last one's result."""
    machine = Machine(cores, tokens, costs)
    send = KINDS[kind](machine, cores, costs)
    took: list[float] = []
    left = [requests]

    def ask() -> None:
        if left[0]:
            left[0] -= 1
            began = machine.now

            def done() -> None:
                took.append(machine.now - began)
                ask()

            send(done)

    draw = random.Random(SEED)
    for _ in range(clients):
        machine.at(draw.uniform(0, 0.01), ask)
    machine.run()
    steady = took[len(took) // 5 :]
    return Outcome(
        rate=len(took) / machine.now, p50=float(np.quantile(steady, 0.5)), p99=float(np.quantile(steady, 0.99))
    )


Send = Callable[[Callable[[], None]], None]
"""Sends a request, and calls something with its result."""


def one_process(machine: Machine, cores: int, costs: Costs) -> Send:
    """Have one process with a stream on every core."""
    lane, pool = Lane(), Pool(streams=cores)
    machine.lanes, machine.pools = [lane], [pool]
    half = (costs.http + costs.queue) / 2  # before the batch and after it
    return lambda then: lane.waiting.append(
        (half, lambda: pool.texts.append(lambda: lane.waiting.append((half, then))))
    )


def http_workers(machine: Machine, cores: int, costs: Costs) -> Send:
    """Have a quarter of the cores, at least one, as processes that speak HTTP before one engine process."""
    fronts, lane, pool = [Lane() for _ in range(max(1, cores // 4))], Lane(), Pool(streams=cores)
    machine.lanes, machine.pools = [*fronts, lane], [pool]
    turn = [0]
    outside, inside = costs.http / 2 + costs.hop / 2, costs.queue / 2 + costs.hop / 2

    def send(then: Callable[[], None]) -> None:
        turn[0] += 1
        front = fronts[turn[0] % len(fronts)]

        def back() -> None:
            lane.waiting.append((inside, lambda: front.waiting.append((outside, then))))

        front.waiting.append((outside, lambda: lane.waiting.append((inside, lambda: pool.texts.append(back)))))

    return send


def workers(machine: Machine, cores: int, costs: Costs) -> Send:
    """Have a process for each core."""
    lanes, pools = [Lane() for _ in range(cores)], [Pool(streams=1) for _ in range(cores)]
    machine.lanes, machine.pools = lanes, pools
    open_requests = [0] * cores
    half = (costs.http + costs.queue) / 2

    def send(then: Callable[[], None]) -> None:
        index = min(range(cores), key=open_requests.__getitem__)
        open_requests[index] += 1

        def done() -> None:
            open_requests[index] -= 1
            then()

        after = (half, done)
        lanes[index].waiting.append(
            (half, lambda: pools[index].texts.append(lambda: lanes[index].waiting.append(after)))
        )

    return send


KINDS: dict[str, Callable[[Machine, int, Costs], Send]] = {
    "one process": one_process,
    "HTTP workers": http_workers,
    "workers": workers,
}
"""Ways to share a machine."""

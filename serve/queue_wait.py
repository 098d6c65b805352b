"""The time that a request would wait in a queue, and the refusal of one that would wait too long."""

import math
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from contextvars import ContextVar

from serve.errors import Overloaded

HORIZON = 10.0
"""Seconds of waiting after which an observation counts 1/e."""
LEAST_SECONDS = 0.05
"""Seconds of waiting that have to be observed before anything is refused."""
client_deadline: ContextVar[float | None] = ContextVar("client_deadline", default=None)
"""Time of the monotonic clock until which the client of the current request waits; None if it does not say."""


class QueueWait:
    """Estimates waits from the rate at which work left the queue lately while more of it waited.

    That is the engine's rate under load: work that finds an idle engine leaves at once and tells nothing. The unit of
    work is the queue's own, such as tokens.
    """

    def __init__(self, most: float) -> None:
        """Start without observations; `most` is the longest wait in seconds that is not refused."""
        self.most = most
        self.work = 0.0
        self.seconds = 0.0
        self.since: float | None = None
        """Time since which work has waited; None while the queue is empty or only work that has just come waits."""

    def left(self, work: float, *, more: bool) -> None:
        """Observe that work left the queue; `more` says whether other work waits on."""
        now = time.monotonic()
        if self.since is not None:
            elapsed = now - self.since
            kept = math.exp(-elapsed / HORIZON)
            self.work = self.work * kept + work
            self.seconds = self.seconds * kept + elapsed
        self.since = now if more else None

    def estimate(self, work: float) -> float:
        """Return the seconds until so much work has left the queue; 0 before there are observations."""
        return work * self.seconds / self.work if self.seconds >= LEAST_SECONDS and self.work else 0.0

    def check(self, ahead: float) -> None:
        """Raise Overloaded, with the seconds to try again after, if a request behind `ahead` would wait too long."""
        deadline = client_deadline.get()
        most = self.most if deadline is None else min(self.most, max(0.0, deadline - time.monotonic()))
        wait = self.estimate(ahead)
        if wait > most:
            raise Overloaded(
                f"the request would wait about {wait:.2g} s in the queue, {most:.2g} s are allowed: try again later",
                retry_after=wait - most,
            )


def work_ahead(own: float, requests: Iterable[float], tenants: Iterable[float] = ()) -> float:
    """Return the work that leaves a queue before a request of the work `own` has left it.

    A tenant's turns go to its oldest request and to the one of which the least has begun: as much of each other request
    is served as of the new one, and as much again of the oldest ones, but never more than there is. Each other tenant
    gets as much as this one meanwhile.

    Args:
        own: Work of the new request.
        requests: Work of each request of the same tenant that waits.
        tenants: Work of each other tenant that waits.
    """
    requests = list(requests)
    ahead = min(sum(requests), 2 * sum(min(own, other) for other in requests))
    return ahead + sum(min(ahead + own, other) for other in tenants)


class WaitingWork:
    """The work of the rows that wait, by tenant and request, kept as they come and go; callable from any thread.

    A new request would otherwise have to look at every row, however many wait.
    """

    def __init__(self) -> None:
        self.by_tenant: dict[str, Counter[Hashable]] = {}
        self.lock = threading.Lock()

    def add(self, tenant: str, request: Hashable, work: int) -> None:
        """Count a row that waits from now on; one without work counts for nothing."""
        if not work:
            return
        with self.lock:
            self.by_tenant.setdefault(tenant, Counter())[request] += work

    def remove(self, tenant: str, request: Hashable, work: int) -> None:
        """Count a row that waits no longer."""
        if not work:
            return
        with self.lock:
            requests = self.by_tenant[tenant]
            requests[request] -= work
            if not requests[request]:
                del requests[request]
            if not requests:
                del self.by_tenant[tenant]

    def of(self, tenants: Iterable[str]) -> int:
        """Return the work of some tenants."""
        with self.lock:
            return sum(self.by_tenant[tenant].total() for tenant in tenants if tenant in self.by_tenant)

    def before(self, own: Mapping[str, float]) -> float:
        """Return the work that leaves a queue before the last of a new request, whose work is `own` by tenant."""
        with self.lock:
            totals = {tenant: requests.total() for tenant, requests in self.by_tenant.items()}
            requests = {tenant: list(self.by_tenant.get(tenant, {}).values()) for tenant in own}
        return max(
            (
                work_ahead(work, requests[one], [total for tenant, total in totals.items() if tenant != one])
                for one, work in own.items()
            ),
            default=0.0,
        )

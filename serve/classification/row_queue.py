"""The queue of a batcher: rows in the order of their arrival, and the work that they are."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from serve.errors import DeadlineExceeded
from serve.queue_wait import WaitingWork
from serve.request_context import RequestContext
from serve.share import Share

Result = TypeVar("Result")


class Sized(Protocol):
    """A row of a batch; its length is its number of tokens."""

    def __len__(self) -> int: ...


RowType = TypeVar("RowType", bound=Sized)


@dataclass(eq=False)
class QueuedRow(Generic[RowType, Result]):
    """A row in the queue."""

    row: RowType
    result: asyncio.Future[Result]
    share: Share
    """That of its request."""
    tenant: str = ""
    """Owner of its turns, such as an adapter: turns are shared out between tenants first."""
    since: float = field(default_factory=time.monotonic)
    """Time of arrival, in seconds of the monotonic clock."""
    request: RequestContext | None = None
    """The request of a protocol that it belongs to."""


class RowQueue(Generic[RowType, Result]):
    """Rows that wait, the oldest first; one event loop adds and removes them."""

    def __init__(self) -> None:
        self.rows: list[QueuedRow[RowType, Result]] = []
        self.work = WaitingWork()
        self.has_cancelled = False
        """There may be rows whose result nobody waits for."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[QueuedRow[RowType, Result]]:
        return iter(self.rows)

    def add(self, items: Sequence[QueuedRow[RowType, Result]]) -> None:
        """Put rows behind the others."""
        self.rows += items
        for item in items:
            self.work.add(item.tenant, item.share, len(item.row))

    def remove(self, items: Sequence[QueuedRow[RowType, Result]]) -> None:
        """Take rows out."""
        removed = set(map(id, items))
        self.rows = [item for item in self.rows if id(item) not in removed]
        for item in items:
            self.work.remove(item.tenant, item.share, len(item.row))

    def cancel(self, items: Sequence[QueuedRow[RowType, Result]]) -> None:
        """Cancel the results of rows that nobody waits for any more; those that wait are dropped with the next turn."""
        for item in items:
            item.result.cancel()
            self.has_cancelled |= item.result.cancelled()  # also one that the caller's gathering has cancelled

    def fail(self, error: Exception) -> None:
        """Take all rows out, with an error as their result."""
        rows, self.rows, self.work = self.rows, [], WaitingWork()
        for item in rows:
            if not item.result.done():
                item.result.set_exception(error)

    def drop(self, timeout: float) -> bool:
        """Fail the rows of requests that waited longer to begin, drop cancelled ones, and return if some went."""
        oldest, found = time.monotonic() - timeout, self.has_cancelled
        for item in self.rows:
            if item.since >= oldest:
                break  # as are all behind it
            if not item.share.begun and not item.result.done():
                found = True
                item.result.set_exception(DeadlineExceeded(f"no batch had room within {timeout:g} s: try again later"))
        if not found:
            return False
        self.has_cancelled = False
        done = [item for item in self.rows if item.result.done()]
        self.remove(done)
        return bool(done)

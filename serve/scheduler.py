"""Dynamic batching: while one batch runs, the next one gathers.

There is no timer. An idle engine takes a row at once; a busy one finds all that came meanwhile, up to a budget of
padded tokens. The queue is bounded, a row has a deadline, and every row is answered or failed exactly once.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from serve.errors import DeadlineExceeded, Draining, InputError, Overloaded

Answer = TypeVar("Answer")


class Sized(Protocol):
    """A row: all that batching needs to know of it is its length in tokens."""

    def __len__(self) -> int: ...


RowType = TypeVar("RowType", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of a queue and of a batch."""

    max_batch_tokens: int = 4096
    """Of rows times the longest row; a single longer row still runs, alone."""
    max_padding: float = 0.15
    """Share of a batch's tokens that may be padding: the rows that would make it more wait for the next batch."""
    max_batch_rows: int = 64
    max_queued_rows: int = 1024
    timeout: float = 30.0
    """Seconds that a row may wait for its batch."""


@dataclass(eq=False)
class Waiting(Generic[RowType, Answer]):
    """A row in the queue."""

    row: RowType
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[RowType, Answer]):
    """A bounded queue before `run`, which answers a batch of rows and is called from one worker thread at a time.

    An answer that is an exception is raised for its row.
    """

    def __init__(
        self,
        run: Callable[[Sequence[RowType]], Sequence[Answer | Exception]],
        limits: Limits,
        *,
        on_batch: Callable[[Sequence[RowType], float, float], None] = lambda rows, waited, took: None,
    ) -> None:
        self.run, self.limits, self.on_batch = run, limits, on_batch
        self.queue: list[Waiting[RowType, Answer]] = []
        self.arrival = asyncio.Event()
        self.draining = False
        self.abandoned = 0
        """Rows that were taken and that nobody waits for any more: the server was forced to stop."""
        self.worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take batches from the queue, in the running event loop."""
        self.worker = asyncio.create_task(self._work())

    async def submit(self, rows: Sequence[RowType]) -> list[Answer]:
        """Queue rows and return their answers in order; all are queued or none is."""
        if self.draining:
            raise Draining("the server is stopping; send the request to another one")
        if len(rows) > self.limits.max_queued_rows:
            raise InputError(f"a request of {len(rows)} rows never fits: the queue holds {self.limits.max_queued_rows}")
        if len(self.queue) + len(rows) > self.limits.max_queued_rows:
            raise Overloaded(
                f"the queue holds {len(self.queue)} rows of at most {self.limits.max_queued_rows}; "
                f"{len(rows)} more do not fit: try again later"
            )
        loop = asyncio.get_running_loop()
        waiting = [Waiting[RowType, Answer](row, loop.create_future()) for row in rows]
        self.queue += waiting
        self.arrival.set()
        try:
            return list(await asyncio.gather(*(item.answer for item in waiting)))
        except asyncio.CancelledError:
            self.abandoned += len(waiting)
            raise
        finally:
            for item in waiting:
                item.answer.cancel()

    async def drain(self) -> None:
        """Take no more rows and return when all that were taken are answered."""
        self.draining = True
        self.arrival.set()
        if self.worker is not None:
            await self.worker

    async def _work(self) -> None:
        while True:
            await self.arrival.wait()
            self._drop_late()
            if batch := self._next_batch():
                await self._answer(batch)
            elif self.draining:
                return
            else:
                self.arrival.clear()

    def _drop_late(self) -> None:
        """Fail the rows that waited too long and forget those that nobody waits for."""
        oldest = time.monotonic() - self.limits.timeout
        for item in self.queue:
            if item.since < oldest and not item.answer.done():
                item.answer.set_exception(
                    DeadlineExceeded(f"no batch had room within {self.limits.timeout:g} s: try again later")
                )
        self.queue = [item for item in self.queue if not item.answer.done()]

    def _next_batch(self) -> list[Waiting[RowType, Answer]]:
        """Take the row that waits longest and, while the budget lasts, those nearest to it in length."""
        if not self.queue:
            return []
        oldest = self.queue[0]
        batch = [oldest]
        longest = tokens = len(oldest.row)
        for item in sorted(self.queue[1:], key=lambda item: abs(len(item.row) - len(oldest.row))):
            if len(batch) == self.limits.max_batch_rows:
                break
            padded = max(longest, len(item.row)) * (len(batch) + 1)
            fits = padded <= self.limits.max_batch_tokens
            if fits and padded - tokens - len(item.row) <= self.limits.max_padding * padded:
                batch.append(item)
                longest, tokens = max(longest, len(item.row)), tokens + len(item.row)
        taken = set(map(id, batch))
        self.queue = [item for item in self.queue if id(item) not in taken]
        return batch

    async def _answer(self, batch: list[Waiting[RowType, Answer]]) -> None:
        started = time.monotonic()
        rows = [item.row for item in batch]
        try:
            answers = await asyncio.to_thread(self.run, rows)
        except Exception as error:  # whatever it is, it is every row's answer, and the worker goes on
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        self.on_batch(rows, started - batch[0].since, time.monotonic() - started)
        for item, answer in zip(batch, answers, strict=True):
            if item.answer.done():
                continue
            if isinstance(answer, Exception):
                item.answer.set_exception(answer)
            else:
                item.answer.set_result(answer)

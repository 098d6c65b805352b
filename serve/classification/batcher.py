"""Dynamic batching: while one batch runs, the next one gathers.

There is no timer. An idle engine takes a row at once; a busy one finds all that came meanwhile, up to a budget of
padded tokens. Where batches can run side by side, one that leaves nothing waiting has the machine to itself, and under
load each takes a share of it. The queue is bounded, a row has a deadline, and every row is answered or failed exactly
once.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from serve.errors import DeadlineExceeded, Draining, InputError, Overloaded

Answer = TypeVar("Answer")


class Sized(Protocol):
    """A row: all that batching needs to know of it is its length in tokens."""

    def __len__(self) -> int: ...


RowType = TypeVar("RowType", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of a queue and of a batch."""

    max_batch_tokens: int = 512
    """Of rows times the longest row; a single longer row still runs, alone."""
    run_tokens: int = 16
    """What a run takes beyond its tokens, as so many tokens: the more, the more padding a larger batch is worth.

    MiniLM: 13 on one core, 22 on two."""
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
    """A bounded queue before `run`, which answers a batch of rows in a thread, with at most `streams` side by side.

    `run` is told whether the batch is alone: if so, no other is begun before it ends. An answer that is an exception is
    raised for its row.
    """

    def __init__(
        self,
        run: Callable[[Sequence[RowType], bool], Sequence[Answer | Exception]],
        limits: Limits,
        *,
        streams: int = 1,
        on_batch: Callable[[Sequence[RowType], float, float], None] = lambda rows, waited, took: None,
    ) -> None:
        self.run, self.limits, self.streams, self.on_batch = run, limits, streams, on_batch
        self.queue: list[Waiting[RowType, Answer]] = []
        self.change = asyncio.Event()
        """Set when rows have come, a batch has ended, or the end has been announced."""
        self.running: set[asyncio.Task[None]] = set()
        self.alone = False
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
        self.change.set()
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
        self.change.set()
        if self.worker is not None:
            await self.worker

    async def _work(self) -> None:
        while self.queue or self.running or not self.draining:
            await self.change.wait()
            self.change.clear()
            self._drop_late()
            while not self.alone and len(self.running) < self.streams and (batch := self._next_batch()):
                self.alone = not self.running and (self.streams == 1 or not self.queue)
                self.running.add(task := asyncio.create_task(self._answer(batch, self.alone)))
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self.alone = False
        self.change.set()

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
        """Take the row that waits longest and those near it in length: as many as answer the most tokens for the time.

        A batch costs its padded tokens and `run_tokens`. All runs of rows, sorted by length, that have the oldest among
        them are compared.
        """
        if not self.queue:
            return []
        limits, by_length = self.limits, sorted(self.queue, key=lambda item: len(item.row))
        at = by_length.index(self.queue[0])
        lengths = np.array([len(item.row) for item in by_length])
        before = np.concatenate([[0], lengths.cumsum()])
        first = np.arange(max(0, at - limits.max_batch_rows + 1), at + 1)[:, None]
        last = np.arange(at, min(len(by_length), at + limits.max_batch_rows))
        rows, tokens = last - first + 1, before[last + 1] - before[first]
        padded = rows * lengths[last]
        fits = (rows <= limits.max_batch_rows) & ((padded <= limits.max_batch_tokens) | (rows == 1))
        worth = np.where(fits, tokens / (padded + limits.run_tokens), -1)
        low, high = np.unravel_index(worth.argmax(), worth.shape)
        batch = by_length[first[low, 0] : last[high] + 1]
        taken = set(map(id, batch))
        self.queue = [item for item in self.queue if id(item) not in taken]
        return batch

    async def _answer(self, batch: list[Waiting[RowType, Answer]], alone: bool) -> None:
        started = time.monotonic()
        rows = [item.row for item in batch]
        try:
            answers = await asyncio.to_thread(self.run, rows, alone)
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

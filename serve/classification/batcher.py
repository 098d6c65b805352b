"""Dynamic batching: while one batch runs, the next one gathers.

There is no timer. An idle engine runs a row at once; a busy one batches the rows that arrived meanwhile. Each batch
maximises tokens per second within a padded-token budget, and may mix adapters. If batches can run side by side, a batch
that leaves the queue empty uses all threads, and under load each batch uses one.

The queue is bounded, requests have a deadline to begin, and every row gets exactly one result or error.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic

import numpy as np

from serve.api_keys import check_waiting, has_key, take_tokens
from serve.classification.row_queue import QueuedRow, Result, RowQueue, RowType
from serve.errors import InputError, Overloaded, ShuttingDown
from serve.fair_turns import FairTurns
from serve.limits import BatchLimits
from serve.queue_wait import QueueWait
from serve.request_context import current_request
from serve.share import Share

logger = logging.getLogger(__name__)


class Batcher(Generic[RowType, Result]):
    """A bounded queue of rows and the batches that are formed from it."""

    def __init__(
        self,
        run: Callable[[Sequence[RowType], bool], Sequence[Result | Exception]],
        limits: BatchLimits,
        *,
        streams: int = 1,
        on_batch: Callable[[Sequence[QueuedRow[RowType, Result]], float, float], None] = lambda rows, start, took: None,
    ) -> None:
        """Make a batcher that `start` sets to work.

        Args:
            run: Runs a batch in a thread and returns one result for each row; an exception in a row's place is raised
                for that row. Its second argument is True if the batch is alone: no other starts before it ends.
            limits: Bounds of the queue and of a batch.
            streams: Batches that may run side by side.
            on_batch: Called after each batch with its rows, the time at which it began, and the seconds that it ran.
        """
        self.run, self.limits, self.streams, self.on_batch = run, limits, streams, on_batch
        self.queue = RowQueue[RowType, Result]()
        self.wait = QueueWait(limits.max_queue_secs)
        self.turns = FairTurns()
        self.last_tokens = 0
        """Tokens of the last batch."""
        self.change = asyncio.Event()
        """Set when rows arrive, a batch ends, or draining begins."""
        self.running: set[asyncio.Task[None]] = set()
        self.running_rows = 0
        """Rows of the batches that run."""
        self.alone = False
        """The batch that runs has all threads, and no other may start."""
        self.oldest_next = True
        """The next batch begins with the oldest row of the tenants that have had little."""
        self.draining = False
        self.abandoned = 0
        """Rows whose caller was cancelled before their result: a forced shutdown or a client that disconnected."""
        self.worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to form batches, in the running event loop."""
        self.worker = asyncio.create_task(self._work())

    async def submit(self, rows: Sequence[RowType], tenants: Sequence[str] = ()) -> list[Result]:
        """Queue rows and return their results in order; either all rows are queued or none.

        Args:
            rows: The rows of a request.
            tenants: Owner of the turns of each row; without, all requests are of one.

        Raises:
            InputError: The queue can never hold so many rows.
            Overloaded: The queue does not hold so many rows now, or they would wait too long.
            DeadlineExceeded: A row waited longer than the limits allow.
            ShuttingDown: The batcher is draining.
            Exception: The error of a row or of its batch.
        """
        self._check_room(len(rows))
        tenants = tenants or [""] * len(rows)
        own = Counter[str]()
        for row, tenant in zip(rows, tenants, strict=True):
            own[tenant] += len(row)
        if has_key():  # all rows are the key's
            mine = sum(item.tenant in own for item in self.queue)
            check_waiting(mine, len(rows), self.limits.max_queued_requests)
        self.wait.check(self.queue.work.before(own))
        take_tokens(own.total())
        share, request = Share(rows=len(rows)), current_request.get()
        queued = [
            QueuedRow[RowType, Result](row, asyncio.get_running_loop().create_future(), share, tenant, request=request)
            for row, tenant in zip(rows, tenants, strict=True)
        ]
        for tenant in own:
            self.turns.join(tenant, self.queue.work.by_tenant)
        self.queue.add(queued)
        self.change.set()
        try:
            return list(await asyncio.gather(*(item.result for item in queued)))
        except asyncio.CancelledError:
            self.abandoned += len(queued)
            raise
        finally:
            self.queue.cancel(queued)

    def _check_room(self, count: int) -> None:
        """Raise the error of a request of so many rows that the queue does not take."""
        if self.draining:
            raise ShuttingDown("the server is stopping; send the request to another one")
        if count > self.limits.max_queued_requests:
            raise InputError(f"a request of {count} rows never fits: the queue holds {self.limits.max_queued_requests}")
        if len(self.queue) + count > self.limits.max_queued_requests:
            raise Overloaded(
                f"the queue holds {len(self.queue)} rows of at most {self.limits.max_queued_requests}; "
                f"{count} more do not fit: try again later"
            )

    async def drain(self) -> None:
        """Refuse new rows and return when every queued row has its result or error."""
        self.draining = True
        self.change.set()
        if self.worker is not None:
            await self.worker

    async def _work(self) -> None:
        while self.queue or self.running or not self.draining:
            await self.change.wait()
            self.change.clear()
            try:
                self._begin_batches()
            except Exception as error:  # rows that no batch can be formed of end, and not the worker
                logger.exception("no batch could be formed; the %d rows that wait end with this error", len(self.queue))
                self.queue.fail(error)

    def _begin_batches(self) -> None:
        """Begin as many batches as may run."""
        if self.queue.drop(self.limits.timeout) and not self.queue:
            self.wait.left(0, more=False)
        while not self.alone and len(self.running) < self.streams and (batch := self._next_batch()):
            self.alone = not self.running and (self.streams == 1 or not self.queue)
            self.running.add(task := asyncio.create_task(self._run_batch(batch, self.alone)))
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self.alone = False
        self.change.set()

    def _next_batch(self) -> list[QueuedRow[RowType, Result]]:
        """Remove the most efficient batch with the row whose turn it is from the queue and return it.

        Candidates are all ranges of the queue, sorted by length, that contain that row and fit the limits. The
        cost of a batch is its padded tokens (rows × longest row) + `run_overhead_tokens`, which is proportional to its
        time: the candidate with the most tokens / cost yields the most tokens per second.
        """
        if not self.queue:
            return []
        limits, by_length = self.limits, sorted(self.queue, key=lambda item: len(item.row))
        due = by_length.index(self._in_turn())
        lengths = np.array([len(item.row) for item in by_length])
        tokens_before = np.concatenate([[0], lengths.cumsum()])
        # Candidate [i, j] is by_length[first[i] : last[j] + 1]: (firsts, 1) and (lasts,) broadcast to (firsts, lasts).
        first = np.arange(max(0, due - limits.max_batch_requests + 1), due + 1)[:, None]
        last = np.arange(due, min(len(by_length), due + limits.max_batch_requests))
        rows, tokens = last - first + 1, tokens_before[last + 1] - tokens_before[first]
        padded = rows * lengths[last]
        fits = (rows <= limits.max_batch_requests) & ((padded <= limits.max_batch_tokens) | (rows == 1))
        efficiency = np.where(fits, tokens / (padded + limits.run_overhead_tokens), -1)
        low, high = np.unravel_index(efficiency.argmax(), efficiency.shape)
        batch = by_length[first[low, 0] : last[high] + 1]
        for item in batch:
            item.share.begun += 1
            self.turns.charge(item.tenant, len(item.row))
        self.last_tokens = sum(len(item.row) for item in batch)
        self.wait.left(self.last_tokens, more=len(self.queue) > len(batch))
        self.queue.remove(batch)  # last: until then a fault finds all rows in the queue
        return batch

    def _in_turn(self) -> QueuedRow[RowType, Result]:
        """Return the row that the next batch begins with: in turn one of two.

        - The oldest row of the tenants that have had little.
        - That of the least begun request of the tenant that has had the least.
        """
        tenants = list(dict.fromkeys(item.tenant for item in self.queue))
        oldest, self.oldest_next = self.oldest_next, not self.oldest_next
        tenant = self.turns.oldest(tenants, self.last_tokens) if oldest else self.turns.least(tenants)
        queue = [item for item in self.queue if item.tenant == tenant]
        return queue[0] if oldest else min(queue, key=lambda item: item.share.begun)

    async def _run_batch(self, batch: list[QueuedRow[RowType, Result]], alone: bool) -> None:
        """Run a batch in a thread and set the results of its rows; if the run fails, its error is that of every row."""
        started = time.monotonic()
        rows, requests = [item.row for item in batch], {item.request for item in batch}
        current_request.set(requests.pop() if len(requests) == 1 else None)  # for log lines, in this task alone
        results: Sequence[Result | Exception]
        try:
            self.running_rows += len(rows)
            results = await asyncio.to_thread(self.run, rows, alone)
        except Exception as error:  # any error ends this batch and not the worker
            results = [error] * len(batch)
        else:
            self.on_batch(batch, started, time.monotonic() - started)
        finally:
            self.running_rows -= len(rows)
        for item, result in zip(batch, results, strict=True):
            if item.result.done():
                continue
            if isinstance(result, Exception):
                item.result.set_exception(result)
            else:
                item.result.set_result(result)

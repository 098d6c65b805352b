import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.classification.batcher import Batcher, BatchLimits
from serve.classification.row_queue import QueuedRow
from serve.errors import DeadlineExceeded, InputError, Overloaded, ShuttingDown
from serve.share import Share

Run = Callable[[Sequence[str], bool], Sequence[str]]


class Engine:
    """Answers a row by its capitals, and waits at a gate where there is one."""

    def __init__(self, *, gated: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.alone: list[bool] = []
        self.gate = threading.Event()
        self.busy = threading.Event()
        if not gated:
            self.gate.set()

    def __call__(self, rows: Sequence[str], alone: bool) -> list[str]:
        self.batches.append(list(rows))
        self.alone.append(alone)
        self.busy.set()
        assert self.gate.wait(10)
        if "boom" in rows:
            raise RuntimeError("boom")
        return [row.upper() for row in rows]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def batcher(engine: Run, streams: int = 1, **limits: float) -> Batcher[str, str]:
    made: Batcher[str, str] = Batcher(engine, BatchLimits(**limits), streams=streams)
    made.start()
    return made


def test_answers_come_in_the_order_of_the_rows() -> None:
    async def scenario() -> None:
        queue = batcher(Engine())
        assert await queue.submit(["bbb", "a", "cc"]) == ["BBB", "A", "CC"]
        await queue.drain()

    asyncio.run(scenario())


def test_what_comes_while_a_batch_runs_is_the_next_batch() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine)
        first = asyncio.create_task(queue.submit(["a"]))
        await until(engine.busy.is_set)
        others = [asyncio.create_task(queue.submit([row])) for row in ("b", "c", "d")]
        await until(lambda: len(queue.queue) == 3)
        engine.gate.set()
        assert await first == ["A"]
        assert [await other for other in others] == [["B"], ["C"], ["D"]]
        assert engine.batches == [["a"], ["b", "c", "d"]]

    asyncio.run(scenario())


def test_a_batch_keeps_the_budget_of_padded_tokens() -> None:
    async def scenario() -> None:
        engine = Engine()
        rows = ["x" * length for length in (3, 9, 3, 8, 2, 30, 3)]
        queue = batcher(engine, max_batch_tokens=20, run_overhead_tokens=1000)
        assert await queue.submit(rows) == [row.upper() for row in rows]
        assert sorted(row for batch in engine.batches for row in batch) == sorted(rows)
        for batch in engine.batches:
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= 20
        assert rows[0] in engine.batches[0], "who waits longest is served first"

    asyncio.run(scenario())


def test_a_row_that_would_be_padding_for_the_others_waits_for_its_own_batch() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, run_overhead_tokens=8)
        first = asyncio.create_task(queue.submit(["x"]))
        await until(engine.busy.is_set)
        rows = ["x" * length for length in (10, 40, 9, 38, 11, 10, 2)]
        others = asyncio.create_task(queue.submit(rows))
        await until(lambda: len(queue.queue) == len(rows))
        engine.gate.set()
        await first
        assert await others == [row.upper() for row in rows]
        assert [sorted(map(len, batch)) for batch in engine.batches[1:]] == [[9, 10, 10, 11], [38, 40], [2]]

    asyncio.run(scenario())


def test_a_batch_keeps_the_number_of_rows() -> None:
    async def scenario() -> None:
        engine = Engine()
        await batcher(engine, max_batch_requests=2).submit(list("abcde"))
        assert [len(batch) for batch in engine.batches] == [2, 2, 1]

    asyncio.run(scenario())


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 200),
    st.integers(0, 100),
)
def test_no_other_batch_with_the_oldest_row_answers_more_for_its_time(
    lengths: list[int], rows: int, tokens: int, run_overhead_tokens: int
) -> None:
    """Against all neighbours in length, one by one."""
    limits = BatchLimits(max_batch_requests=rows, max_batch_tokens=tokens, run_overhead_tokens=run_overhead_tokens)

    def worth(batch: Sequence[int]) -> float:
        return sum(batch) / (len(batch) * max(batch) + run_overhead_tokens)

    async def scenario() -> list[int]:
        queue: Batcher[str, str] = Batcher(Engine(), limits)
        loop = asyncio.get_running_loop()
        queue.queue.add([QueuedRow("x" * length, loop.create_future(), Share(rows=1)) for length in lengths])
        batch = [len(item.row) for item in queue._next_batch()]
        assert sorted(batch + [len(item.row) for item in queue.queue]) == sorted(lengths), "none is lost or doubled"
        return batch

    batch = asyncio.run(scenario())
    ordered, oldest = sorted(lengths), sorted(lengths).index(lengths[0])
    others = [ordered[low:high] for low in range(oldest + 1) for high in range(oldest + 1, len(ordered) + 1)]
    allowed = [
        other for other in others if len(other) <= rows and (len(other) == 1 or len(other) * max(other) <= tokens)
    ]
    assert batch in allowed
    assert worth(batch) == pytest.approx(max(map(worth, allowed)))


def test_under_load_batches_run_side_by_side_and_a_lone_one_has_the_machine() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, streams=2, max_batch_requests=1)
        lone = asyncio.create_task(queue.submit(["lone"]))
        await until(engine.busy.is_set)
        others = asyncio.create_task(queue.submit(["a", "b", "c"]))
        await asyncio.sleep(0.05)
        assert engine.batches == [["lone"]], "nothing runs beside one that is alone"
        engine.gate.set()
        assert await lone + await others == ["LONE", "A", "B", "C"]
        assert engine.alone[:2] == [True, False]
        engine.gate.clear()
        more = asyncio.create_task(queue.submit(["d", "e", "f"]))
        await until(lambda: len(engine.batches) == 6)
        await asyncio.sleep(0.05)
        assert len(engine.batches) == 6, "two at a time"
        engine.gate.set()
        assert await more == ["D", "E", "F"]
        await queue.drain()

    asyncio.run(scenario())


def test_a_full_queue_takes_all_rows_of_a_request_or_none() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, max_queued_requests=3)
        first = asyncio.create_task(queue.submit(["a"]))
        await until(engine.busy.is_set)
        second = asyncio.create_task(queue.submit(["b", "c"]))
        await until(lambda: len(queue.queue) == 2)
        with pytest.raises(Overloaded, match="holds 2 rows of at most 3"):
            await queue.submit(["d", "e"])
        assert len(queue.queue) == 2
        engine.gate.set()
        assert await first + await second == ["A", "B", "C"]

    asyncio.run(scenario())


def test_a_request_that_can_never_fit_is_not_told_to_try_again() -> None:
    async def scenario() -> None:
        with pytest.raises(InputError, match="a request of 4 rows never fits: the queue holds 3"):
            await batcher(Engine(), max_queued_requests=3).submit(list("abcd"))

    asyncio.run(scenario())


def test_the_work_that_waits_is_that_of_the_rows_in_the_queue() -> None:
    """Whatever becomes of them: run, late, cancelled with their request, or left by their client."""

    def counted(queue: Batcher[str, str]) -> dict[str, int]:
        found = Counter[str]()
        for item in queue.queue:
            found[item.tenant] += len(item.row)
        return found

    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, timeout=0.3, max_batch_requests=2, max_batch_tokens=4)
        first = asyncio.create_task(queue.submit(["a"]))
        await until(engine.busy.is_set)
        late = asyncio.create_task(queue.submit(["late", "later"], ["x", "y"]))
        gone = asyncio.create_task(queue.submit(["gone"], ["x"]))
        await until(lambda: len(queue.queue) == 3)
        assert {tenant: requests.total() for tenant, requests in queue.queue.work.by_tenant.items()} == counted(queue)
        assert counted(queue) == {"x": 8, "y": 5}
        gone.cancel()
        await asyncio.sleep(0.4)
        fails = asyncio.create_task(queue.submit(["boom", "bang"], ["x", "z"]))
        await until(lambda: len(queue.queue) >= 2)
        engine.gate.set()
        found = await asyncio.gather(first, late, gone, fails, return_exceptions=True)
        assert [type(one) for one in found] == [list, DeadlineExceeded, asyncio.CancelledError, RuntimeError]
        await queue.drain()
        assert (list(queue.queue), queue.queue.work.by_tenant) == ([], {})

    asyncio.run(scenario())


def test_a_row_that_waits_too_long_fails_and_is_not_run() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, timeout=0.3)
        first = asyncio.create_task(queue.submit(["a"]))
        await until(engine.busy.is_set)
        late = asyncio.create_task(queue.submit(["late"]))
        await asyncio.sleep(0.4)
        engine.gate.set()
        assert await first == ["A"]
        with pytest.raises(DeadlineExceeded):
            await late
        assert ["late"] not in engine.batches

    asyncio.run(scenario())


def test_a_request_that_has_begun_is_finished_however_long_it_queues_behind_itself() -> None:
    async def scenario() -> None:
        def slow(rows: Sequence[str], alone: bool) -> list[str]:
            time.sleep(0.05)
            return [row.upper() for row in rows]

        queue = batcher(slow, timeout=0.25, max_batch_requests=1)
        assert await queue.submit(list("abcdef")) == list("ABCDEF")
        await queue.drain()

    asyncio.run(scenario())


def test_a_small_request_does_not_wait_for_all_rows_of_a_large_one() -> None:
    """Every second batch is that of the request of which the least has begun, every other that of the oldest row."""

    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, max_batch_requests=1)
        large = asyncio.create_task(queue.submit(["0", "1", "2", "3", "4", "5"]))
        await until(engine.busy.is_set)
        small = [asyncio.create_task(queue.submit([row])) for row in ("a", "b")]
        await until(lambda: len(queue.queue) == 7)
        engine.gate.set()
        await asyncio.gather(large, *small)
        assert engine.batches == [["0"], ["a"], ["1"], ["b"], ["2"], ["3"], ["4"], ["5"]]

    asyncio.run(scenario())


def test_a_row_that_nobody_waits_for_is_not_run() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine)
        first = asyncio.create_task(queue.submit(["a"]))
        await until(engine.busy.is_set)
        gone = asyncio.create_task(queue.submit(["gone"]))
        await until(lambda: len(queue.queue) == 1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert queue.abandoned == 1
        engine.gate.set()
        assert await first == ["A"]
        await queue.drain()
        assert engine.batches == [["a"]]

    asyncio.run(scenario())


def test_a_failing_batch_fails_its_rows_and_no_others() -> None:
    async def scenario() -> None:
        queue = batcher(Engine())
        with pytest.raises(RuntimeError, match="boom"):
            await queue.submit(["boom"])
        assert await queue.submit(["fine"]) == ["FINE"]

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["turns.charge", "wait.left"])
def test_a_fault_while_a_batch_is_formed_ends_the_rows_that_wait_and_not_the_worker(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise ArithmeticError("a fault")

    async def scenario() -> None:
        queue = batcher(Engine())
        with monkeypatch.context() as patched:
            owner, name = where.split(".")
            patched.setattr(getattr(queue, owner), name, fault)
            with pytest.raises(ArithmeticError, match="a fault"):
                await queue.submit(["a", "b"])
        assert (len(queue.queue), queue.queue.work.before(Counter({"": 5}))) == (0, 0)
        assert await queue.submit(["fine"]) == ["FINE"]
        await queue.drain()

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert "the 2 rows that wait end with this error" in caplog.text


def test_draining_answers_what_was_taken_and_takes_no_more() -> None:
    async def scenario() -> None:
        engine = Engine(gated=True)
        queue = batcher(engine, max_batch_requests=1)
        taken = asyncio.create_task(queue.submit(["a", "b", "c"]))
        await until(engine.busy.is_set)
        drained = asyncio.create_task(queue.drain())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await queue.submit(["d"])
        engine.gate.set()
        await drained
        assert await taken == ["A", "B", "C"]

    asyncio.run(scenario())


def test_a_request_that_would_wait_too_long_is_refused_at_once() -> None:
    class Slow(Engine):
        def __call__(self, rows: Sequence[str], alone: bool) -> list[str]:
            time.sleep(0.05)
            return super().__call__(rows, alone)

    async def scenario() -> None:
        queue = batcher(Slow(), max_batch_tokens=10, max_queue_secs=0.5)
        # 10 tokens in 0.05 s are 200 a second: of 400, which are 2 s, the first is taken before anything is known.
        long = asyncio.create_task(queue.submit(["x" * 10] * 40))
        await until(lambda: 0 < len(queue.queue) < 36)
        assert await queue.submit(["y" * 10]) == ["Y" * 10]  # turns are taken: it does not wait for all of the long one
        with pytest.raises(Overloaded, match=r"would wait about [1-9]\d*(\.\d)? s in the queue, 0\.5 s are allowed"):
            await queue.submit(["z" * 10] * 30)
        assert len(await long) == 40
        await queue.drain()

    asyncio.run(scenario())


def test_a_tenant_does_not_wait_for_the_burst_of_another() -> None:
    async def scenario() -> list[str]:
        engine, done = Engine(gated=True), list[str]()
        queue = batcher(engine, max_batch_tokens=3)

        async def ask(row: str, tenant: str) -> None:
            await queue.submit([row], [tenant])
            done.append(row)

        burst = [asyncio.create_task(ask("aaa", "a")) for _ in range(50)]
        await until(lambda: len(queue.queue) == 49)  # one runs
        quiet = asyncio.create_task(ask("bbb", "b"))
        await until(lambda: len(queue.queue) == 50)
        engine.gate.set()
        await asyncio.gather(*burst, quiet)
        await queue.drain()
        return done

    assert asyncio.run(scenario()).index("bbb") <= 2

import math
import time

import pytest

from serve import queue_wait
from serve.errors import Overloaded
from serve.queue_wait import HORIZON, QueueWait, WaitingWork, client_deadline, work_ahead


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(queue_wait.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def busy(wait: QueueWait, clock: Clock, *, seconds: float, work: float) -> None:
    """Let work leave a queue in which more waits."""
    wait.left(0, more=True)
    clock.now += seconds
    wait.left(work, more=True)


def test_a_wait_is_the_work_ahead_by_the_rate_of_late(clock: Clock) -> None:
    wait = QueueWait(2.0)
    assert wait.estimate(1000) == 0
    busy(wait, clock, seconds=0.5, work=100)
    assert wait.estimate(300) == pytest.approx(1.5)


def test_work_that_finds_an_idle_engine_tells_nothing(clock: Clock) -> None:
    wait = QueueWait(2.0)
    for _ in range(3):
        clock.now += 1
        wait.left(1000, more=False)
    assert wait.estimate(1000) == 0


def test_observations_fade(clock: Clock) -> None:
    wait = QueueWait(2.0)
    busy(wait, clock, seconds=1, work=100)
    clock.now += HORIZON
    wait.left(4000, more=True)
    work, seconds = 4000 + 100 / math.e, HORIZON + 1 / math.e
    assert wait.estimate(1) == pytest.approx(seconds / work)


def test_a_request_that_would_wait_too_long_is_told_when_to_come_again(clock: Clock) -> None:
    wait = QueueWait(2.0)
    busy(wait, clock, seconds=0.5, work=100)
    wait.check(400)
    with pytest.raises(Overloaded, match=r"would wait about 3\.5 s in the queue, 2 s are allowed") as refused:
        wait.check(700)
    assert refused.value.retry_after == pytest.approx(1.5)


def test_a_request_whose_client_would_be_gone_is_refused(clock: Clock) -> None:
    wait = QueueWait(2.0)
    busy(wait, clock, seconds=0.5, work=100)
    token = client_deadline.set(time.monotonic() + 1)
    try:
        wait.check(150)
        with pytest.raises(Overloaded, match=", 1 s are allowed"):
            wait.check(250)
    finally:
        client_deadline.reset(token)


@pytest.mark.parametrize(
    ("own", "others", "ahead"),
    [(10, [], 0), (10, [4], 4), (10, [10, 10, 10], 30), (1, [1000], 2), (1000, [1, 1, 1], 3), (10, [1000, 1000], 40)],
)
def test_the_work_ahead_is_that_of_a_queue_that_takes_turns(own: int, others: list[int], ahead: int) -> None:
    assert work_ahead(own, others) == ahead


@pytest.mark.parametrize(("own", "requests", "tenants", "ahead"), [(1, [], [1000], 1), (1, [5], [1000, 2], 2 + 3 + 2)])
def test_the_work_of_other_tenants_is_as_much_as_ones_own(
    own: int, requests: list[int], tenants: list[int], ahead: int
) -> None:
    assert work_ahead(own, requests, tenants) == ahead


def test_the_work_that_waits_is_kept_as_rows_come_and_go() -> None:
    work = WaitingWork()
    assert (work.of(["a"]), work.before({"a": 7})) == (0, 0)
    for tenant, request, tokens in (("a", "one", 4), ("a", "one", 6), ("a", "two", 3), ("b", "three", 100)):
        work.add(tenant, request, tokens)
    assert (work.of(["a"]), work.of(["a", "b", "c"])) == (13, 113)
    assert work.before({"a": 5}) == work_ahead(5, [10, 3], [100])
    assert work.before({"c": 5}) == work_ahead(5, [], [13, 100])
    assert work.before({"a": 5, "c": 50}) == max(work_ahead(5, [10, 3], [100]), work_ahead(50, [], [13, 100]))
    for tenant, request, tokens in (("a", "two", 3), ("b", "three", 100), ("a", "one", 4)):
        work.remove(tenant, request, tokens)
    assert work.by_tenant == {"a": {"one": 6}}
    work.remove("a", "one", 6)
    assert work.by_tenant == {}
    for change in (work.add, work.add, work.remove, work.remove):
        change("a", "nothing", 0)
    assert work.by_tenant == {}

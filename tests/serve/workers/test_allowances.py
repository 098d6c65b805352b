import fcntl
from pathlib import Path

import pytest

from serve.api_keys import Allowance, ApiKey
from serve.errors import Overloaded
from serve.workers.allowances import SharedAllowance, SharedApiKeys


def keys(per_minute: int) -> dict[str, ApiKey]:
    return {"some": ApiKey(name="some", sha256="0" * 64, requests=Allowance(per_minute))}


def take(shared: SharedApiKeys) -> None:
    allowance = shared.by_name["some"].requests
    assert allowance is not None
    allowance.take(1, "requests")


def test_two_workers_draw_from_one_level(tmp_path: Path) -> None:
    one, two = SharedAllowance(3, tmp_path / "level"), SharedAllowance(3, tmp_path / "level")
    one.take(1, "requests")
    two.take(2, "requests")
    for each in (one, two):
        with pytest.raises(Overloaded, match="3 requests a minute"):
            each.take(1, "requests")


def test_a_worker_that_starts_later_finds_what_is_left(tmp_path: Path) -> None:
    one = SharedApiKeys(keys(2), tmp_path)
    take(one)
    take(one)
    with pytest.raises(Overloaded):
        take(SharedApiKeys(keys(2), tmp_path))


def test_a_reload_keeps_what_is_left_and_takes_other_limits(tmp_path: Path) -> None:
    one, two = SharedApiKeys(keys(1), tmp_path), SharedApiKeys(keys(1), tmp_path)
    take(one)
    two.replace(keys(1))
    with pytest.raises(Overloaded):
        take(two)
    for each in (one, two):
        each.replace(keys(2))
        take(each)
    with pytest.raises(Overloaded):
        take(one)


def test_a_worker_that_is_stopped_with_the_lock_stops_no_other(tmp_path: Path) -> None:
    one = SharedAllowance(3, tmp_path / "level")
    with (tmp_path / "level").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        one.take(1, "requests")
    assert 2 <= one.left < 3

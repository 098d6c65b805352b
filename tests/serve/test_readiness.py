from dataclasses import replace

import pytest

from serve.engine import EngineStats
from serve.errors import DeviceLost, NotReady, ShuttingDown
from serve.readiness import Readiness
from tests.fixtures.toy_engine import ToyEngine


class Failing(ToyEngine):
    def stats(self) -> EngineStats:
        return replace(super().stats(), failure="the GPU failed")


def test_a_server_is_open_while_it_warms_up_and_ready_after() -> None:
    readiness = Readiness(ToyEngine(), is_warm=False)
    readiness.check_live()
    readiness.check_open()
    with pytest.raises(NotReady, match="warming up"):
        readiness.check_ready()
    assert not readiness.is_ready
    readiness.is_warm = True
    readiness.check_ready()
    assert readiness.is_ready


@pytest.mark.parametrize("by_engine", [False, True])
def test_a_server_that_stops_is_live_and_not_ready(by_engine: bool) -> None:
    engine = ToyEngine()
    readiness = Readiness(engine)
    engine.draining, readiness.is_stopping = by_engine, not by_engine
    readiness.check_live()
    for check in (readiness.check_open, readiness.check_ready):
        with pytest.raises(ShuttingDown):
            check()
    assert not readiness.is_ready


def test_a_lost_device_is_not_live() -> None:
    readiness = Readiness(Failing())
    for check in (readiness.check_live, readiness.check_open, readiness.check_ready):
        with pytest.raises(DeviceLost, match="the GPU failed"):
            check()
    with pytest.raises(DeviceLost):
        _ = readiness.is_ready

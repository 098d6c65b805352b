from pathlib import Path

from serve.telemetry.outage import Outage
from serve.workers.outage import SharedOutage


def test_an_outage_is_begun_and_ended_once(tmp_path: Path) -> None:
    alone = Outage()
    assert [alone.end(), alone.begin(), alone.begin(), alone.end(), alone.end()] == [False, True, False, True, False]


def test_workers_and_those_that_are_started_again_tell_of_one_outage(tmp_path: Path) -> None:
    one, two = SharedOutage(tmp_path / "outage"), SharedOutage(tmp_path / "outage")
    assert [one.begin(), two.begin()] == [True, False]
    again = SharedOutage(tmp_path / "outage")
    assert [again.begin(), again.end(), two.end(), one.begin()] == [False, True, False, True]

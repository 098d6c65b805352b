import pytest

from benchmarks.http_workers.hop import hop_seconds
from benchmarks.http_workers.simulation import KINDS, Costs, simulate

COSTS = Costs(http=0.2, queue=0.1, hop=0.05, run=1.0, token=0.01)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("one process", 0.3 + 1.1), ("workers", 0.3 + 1.1), ("HTTP workers", 0.2 + 0.1 + 2 * 0.05 + 1.1)],
)
def test_a_lone_client_waits_for_every_piece_of_work_in_turn(kind: str, seconds: float) -> None:
    outcome = simulate(kind, 2, 10, 1, COSTS, requests=10)
    assert outcome.p50 == pytest.approx(seconds)
    assert outcome.rate == pytest.approx(1 / seconds, rel=0.01)


def test_python_is_what_one_process_runs_one_at_a_time() -> None:
    costs = Costs(http=0.2, queue=0.1, hop=0.0, run=0.0, token=0.0)
    assert simulate("one process", 8, 1, 64, costs, requests=500).rate == pytest.approx(1 / 0.3, rel=0.05)
    assert simulate("workers", 8, 1, 64, costs, requests=2000).rate == pytest.approx(8 / 0.3, rel=0.1)


def test_no_kind_does_more_than_the_cores() -> None:
    costs = Costs(http=0.2, queue=0.1, hop=0.0, run=0.0, token=0.05)
    for kind in KINDS:
        assert simulate(kind, 4, 10, 32, costs, requests=500).rate <= 4 / (0.3 + 0.5) * 1.01


def test_a_hop_takes_time_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.http_workers.hop.REQUESTS", 2000)
    own, other = hop_seconds(4)
    assert 0 < own < 0.01
    assert 0 < other < 0.01

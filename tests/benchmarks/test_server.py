from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import server
from benchmarks.server import CLIENTS, OURS, REQUESTS, Turns, take_turns
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.processes import free_port
from benchmarks.support.server_sides import INFINITY, LITSERVE

pytestmark = pytest.mark.usefixtures("peer_versions")


def turns(rate: float, *latencies: float) -> Turns:
    return Turns(rates=[rate], latencies=[list(latencies)])


def test_a_server_is_held_against_the_engine_and_each_peer() -> None:
    slow = [0.1] * 99 + [0.5]
    measured = {
        (OURS, 1): turns(150.0, 0.006, 0.006, 0.006),
        (LITSERVE, 1): turns(200.0, 0.005, 0.005, 0.005),
        (OURS, 64): turns(270.0, *slow),
        (LITSERVE, 64): turns(90.0, *slow),
        (INFINITY, 8): turns(100.0, *slow),
        (INFINITY, 64): turns(180.0, *slow),
        (OURS, 8): turns(150.0, *slow),
    }
    engine: Any = SimpleNamespace(rates=[300.0], alone=[0.005])
    findings = server.findings_of(measured, engine, [])
    throughput, litserve, infinity_alone, infinity_eight, infinity, overhead, tail = findings.goals
    assert (throughput.value, throughput.met) == (pytest.approx(0.9), True)
    assert (litserve.value, litserve.met) == (pytest.approx(3.0), True)
    assert (infinity_alone.value, infinity_alone.met) == (None, False)
    assert (infinity_eight.value, infinity_eight.met) == (pytest.approx(1.5), True)
    assert (infinity.value, infinity.met) == (pytest.approx(1.5), False)
    assert (overhead.value, overhead.met) == (pytest.approx(1.0), True)
    assert tail.value == pytest.approx(4.96, abs=0.1)
    assert not tail.met
    assert [row["ours_by_it"] for row in findings.rows] == ["", 0.75, "", 3.0, 1.5, 1.5, "", pytest.approx(0.9)]
    assert findings.worst == "0.750 at 1 clients against litserve"


def test_a_peer_that_is_not_there_has_no_ratio() -> None:
    measured = {(OURS, clients): turns(150.0, 0.006, 0.006, 0.006) for clients in CLIENTS}
    engine: Any = SimpleNamespace(rates=[300.0], alone=[0.005])
    findings = server.findings_of(measured, engine, [])
    assert [(goal.value, goal.met) for goal in findings.goals[1:5]] == [(None, False)] * 4
    assert findings.worst == "no peer was there"


def test_a_percentile_is_the_median_of_those_of_the_turns() -> None:
    """Of 99 values in a row, the p-th percentile is the p-th value."""
    found = Turns(latencies=[[float(factor * value) for value in range(1, 100)] for factor in (1, 10, 3)])
    assert (found.percentile(50), found.percentile(99)) == (150.0, 297.0)


def test_one_server_is_awake_at_a_time_and_each_round_starts_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = {OURS, LITSERVE}
    taken: list[tuple[str, int, int, set[str]]] = []

    def load(url: str, clients: int, bodies: list[object], file: Path) -> dict[str, Any]:
        taken.append((url, clients, len(bodies), set(awake)))
        return {"seconds": 2.0, "latencies": [0.01, 0.02]}

    def sleeper(name: str) -> Any:
        return SimpleNamespace(url=name, pause=lambda: awake.discard(name), resume=lambda: awake.add(name))

    rounds: list[int] = []
    engine: Any = SimpleNamespace(turn=lambda: rounds.append(len(taken)))
    monkeypatch.setattr(server, "load", load)
    measured = take_turns(
        {name: sleeper(name) for name in (OURS, LITSERVE)},
        {name: [name] * 1000 for name in (OURS, LITSERVE)},
        2,
        tmp_path,
        engine,
    )
    orders = ((OURS, LITSERVE), (LITSERVE, OURS))
    assert taken == [
        (name, clients, REQUESTS[clients], {name}) for order in orders for clients in CLIENTS for name in order
    ]
    assert rounds == [0, 6]
    assert measured[LITSERVE, 8] == Turns(rates=[200.0, 200.0], latencies=[[0.01, 0.02]] * 2)


def test_clients_that_get_no_answer_end_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="2 clients failed: ConnectionRefusedError"):
        server.load(f"http://127.0.0.1:{free_port()}/predict", 2, ["a text"], tmp_path / "bodies.json")


def test_no_rounds_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(server, "publish", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="2"):
        server.main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err

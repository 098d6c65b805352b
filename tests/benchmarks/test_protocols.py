import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import protocols
from benchmarks.protocols import CASES, EVENTS, Turns, busy_seconds, findings_of, sender
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.processes import free_port
from benchmarks.support.rounds import Pace

pytest.importorskip("grpc")


def test_a_request_goes_by_the_median_of_its_turns_and_an_event_by_its_share() -> None:
    turns = {name: Turns([0.0003, 0.0002, 0.009], [100.0, 50.0, 60.0], [0.1]) for name in CASES}
    turns["stream"].busy[:] = [EVENTS * 5e-5]
    turns["gRPC ModelInfer, 64 clients"].rates[:] = [90.0]
    predict, completion, event, infer, other = findings_of(turns).goals
    assert (predict.value, predict.met, completion.value) == (pytest.approx(0.3), True, pytest.approx(0.3))
    assert (event.value, event.met) == (pytest.approx(50.0), False)
    assert infer.value == other.value == pytest.approx(1.5)


def test_the_processor_time_of_another_process_is_what_it_has_taken() -> None:
    script = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert busy_seconds(process.pid) == pytest.approx(0.3, abs=0.1)
    assert busy_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
    process.kill()
    process.wait()


def test_every_case_is_answered_by_the_server_that_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {name: protocols.Case(one.path, one.body, 2, 4) for name, one in CASES.items()}
    monkeypatch.setattr(protocols, "CASES", few)
    findings = protocols.measure(Pace(rounds=1, rest_seconds=0.0))
    assert [row["case"] for row in findings.rows] == list(CASES)
    assert all(row["server_ms"] > 0 and row["requests_per_second"] > 0 for row in findings.rows)  # type: ignore[operator]


def test_clients_that_get_no_answer_end_the_benchmark(tmp_path: Path) -> None:
    send = sender(f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "bodies.json")
    with pytest.raises(BenchmarkError, match="8 clients failed: ConnectionRefusedError"):
        send(CASES["/predict"])

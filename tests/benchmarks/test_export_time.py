import sys
from pathlib import Path

import pytest

from benchmarks import export_time
from benchmarks.export_time import OURS, Cost
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.rounds import Timing


def cost(*seconds: float, peaks: list[float]) -> Cost:
    return Cost(timing=Timing(list(seconds)), peaks=peaks)


def test_the_goals_are_of_our_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_time, "_base_mib", lambda name: 100.0)
    costs = {
        ("minilm", OURS): cost(20.0, 30.0, 22.0, peaks=[700.0, 900.0, 800.0]),
        ("minilm", "optimum"): cost(11.0, peaks=[1500.0]),
    }
    monkeypatch.setattr(export_time, "_peer_versions", lambda case: [("optimum/torch", "1")])
    findings = export_time.findings_of(["minilm"], costs, 500.0, {"whole": 7_000_000, "alone": 3_000_000}, [])
    assert [(goal.value, goal.goal, goal.met) for goal in findings.goals] == [
        (22.0, 25, True),
        (4.0, 3.0, False),
        (7.0, 4.0, False),
    ]
    assert findings.worst == "ours takes 2.00 times as long as optimum for minilm"
    assert findings.versions["optimum/torch"] == "1"


def test_a_command_is_timed_with_the_memory_that_it_took(tmp_path: Path) -> None:
    seconds, peak = export_time.run(
        [sys.executable, "-c", "import time; kept = bytearray(200 << 20); time.sleep(0.2)"], tmp_path / "log"
    )
    assert seconds > 0.2
    assert 200 < peak < 240


def test_a_command_that_fails_ends_the_benchmark_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="ended with 3: no such model"):
        export_time.run(
            [sys.executable, "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(3)"], tmp_path / "log"
        )


def test_an_adapter_is_weighed_as_it_is_stored(tmp_path: Path) -> None:
    sizes = export_time.adapter_bytes(tmp_path)
    lora = 24 * 2 * 2 * 1024 * 8 * 4
    head = (1024 * 1024 + 1024 + 2 * 1024 + 2) * 4
    names = 24 * 2 * 2 * 200
    assert lora < sizes["adapter alone"] < lora + names
    assert lora + head < sizes["adapter with its head"] < lora + head + names

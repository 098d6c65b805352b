from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import generate_bank
from benchmarks.generate_bank import ADAPTERS, BANK, GENAI, MERGED, NEW, SAME, findings_of, sides_of
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Reported, Timing

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_a_bank_of_writers_is_held_against_the_merged_graph() -> None:
    sides = {MERGED: Timing([1.0]), BANK: Timing([1.2]), GENAI: Timing([4.8])}
    cost, gain = findings_of({"fp32": sides}, []).goals
    assert (cost.value, cost.met, gain.value, gain.met) == (1.2, False, pytest.approx(4.0), True)
    missing = findings_of({"fp32": {MERGED: Timing([1.0]), BANK: Timing([1.0])}}, [Absent(peer="genai", reason="no")])
    assert missing.goals[1].value is None


def test_the_worst_precision_is_the_one_whose_bank_costs_most() -> None:
    def sides(bank: float, genai: float) -> dict[str, Timing]:
        return {MERGED: Timing([1.0]), BANK: Timing([bank]), GENAI: Timing([genai])}

    findings = findings_of({"fp32": sides(1.1, 4.0), "int4": sides(1.3, 9.0)}, [])
    assert findings.worst == "1.300 (int4: 8 rows of 8 adapters by the merged graph's time)"
    assert findings.rows[-1] == {"precision": "int4", "side": GENAI, "ms": 9000.0, "by_merged": 9.0, "noise": 0.0}


class Engine:
    """A side that writes the row's and the adapter's number, and notes the adapters of each job."""

    jobs: list[list[str] | None]

    def __init__(self, bundle: Any, limits: object) -> None:
        self.generator, self.jobs = None, bundle.jobs

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        self.jobs.append(job.get("adapters"))
        names = job.get("adapters") or [None] * len(job["rows"])
        tokens = [[*row, name] for row, name in zip(job["rows"], names, strict=True)]
        return {"prefill": 1.0, "decode": 2.0, "tokens": tokens}


def opened(monkeypatch: pytest.MonkeyPatch, wrong: str | None) -> tuple[dict[str, Any], list[Absent], Any]:
    """Open the sides with a peer that writes other tokens through the adapter `wrong`."""

    def peer(job: dict[str, Any]) -> dict[str, Any]:
        ((token,),), name = job["rows"], job["adapter"]
        assert job["new"] == NEW
        return {"prefill": 0.5, "decode": 0.25, "tokens": [[token, None if name == wrong else name]]}

    bank: Any = SimpleNamespace(adapters=dict.fromkeys(f"a{index}" for index in range(ADAPTERS)), jobs=[])
    merged: Any = SimpleNamespace(jobs=[])
    monkeypatch.setattr(generate_bank, "Ours", Engine)
    monkeypatch.setattr(generate_bank, "prompts", lambda generator, count, length: [[index] for index in range(count)])
    monkeypatch.setattr(generate_bank, "_genai_files", lambda stack, bank, folder: peer)
    with ExitStack() as stack:
        sides, absent = sides_of(stack, merged, bank, Path("scratch"))
    return sides, absent, SimpleNamespace(bank=bank, merged=merged)


def test_the_peer_takes_the_adapters_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    sides, absent, bundles = opened(monkeypatch, wrong=None)
    assert absent == []
    bundles.bank.jobs.clear()
    assert {name: call() for name, call in sides.items()} == {
        MERGED: Reported(3.0),
        BANK: Reported(3.0),
        SAME: Reported(3.0),
        GENAI: Reported(ADAPTERS * 0.75),
    }
    assert bundles.merged.jobs == [None]
    assert bundles.bank.jobs == [[f"a{index}" for index in range(ADAPTERS)], ["a0"] * ADAPTERS]


def test_a_peer_that_writes_other_tokens_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    sides, absent, _ = opened(monkeypatch, wrong="a5")
    assert list(sides) == [MERGED, BANK, SAME]
    reason = "it generates other tokens than ours through 1 of 8 adapters: times do not compare"
    assert absent == [Absent(peer=GENAI, reason=reason)]

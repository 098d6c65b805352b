from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import generate_bank
from benchmarks.generate_bank import (
    ADAPTERS,
    BANK,
    GENAI,
    MERGED,
    NEW,
    OPENVINO,
    SAME,
    VLLM,
    BankPeer,
    all_at_once,
    findings_of,
    sides_of,
)
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Reported, Timing

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_a_bank_of_writers_is_held_against_the_merged_graph() -> None:
    sides = {MERGED: Timing([1.0]), BANK: Timing([1.2]), GENAI: Timing([4.8]), VLLM: Timing([1.8])}
    cost, *gains = findings_of({"fp32": sides}, []).goals
    assert (cost.value, cost.met) == (1.2, False)
    found = [(goal.value, goal.goal, goal.met) for goal in gains]
    assert found == [(pytest.approx(4.0), 3.0, True), (None, 4.0, False), (pytest.approx(1.5), 2.0, False)]


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


def opened(monkeypatch: pytest.MonkeyPatch, peers: dict[str, BankPeer]) -> tuple[dict[str, Any], list[Absent], Any]:
    """Open the sides over engines that count."""
    bank: Any = SimpleNamespace(adapters=dict.fromkeys(f"a{index}" for index in range(ADAPTERS)), jobs=[])
    merged: Any = SimpleNamespace(jobs=[])
    monkeypatch.setattr(generate_bank, "Ours", Engine)
    monkeypatch.setattr(generate_bank, "prompts", lambda generator, count, length: [[index] for index in range(count)])
    with ExitStack() as stack:
        sides, absent = sides_of(stack, merged, bank, Path("scratch"), peers)
    return sides, absent, SimpleNamespace(bank=bank, merged=merged)


def one_by_one(wrong: str | None = None) -> Any:
    """Return what opens a peer that takes one adapter, and writes other tokens through the adapter `wrong`."""

    def write(job: dict[str, Any]) -> dict[str, Any]:
        ((token,),), name = job["rows"], job["adapter"]
        assert job["new"] == NEW
        return {"prefill": 0.5, "decode": 0.25, "tokens": [[token, None if name == wrong else name]]}

    return lambda stack, bank, folder: write


def mixed(stack: ExitStack, bank: Any, folder: Path) -> Any:
    """Open a peer that takes an adapter for each row, and times the whole."""
    return lambda job: {
        "whole": 2.5,
        "tokens": [[*row, name] for row, name in zip(job["rows"], job["adapters"], strict=True)],
    }


def test_a_peer_takes_the_adapters_one_after_another_or_all_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {
        GENAI: BankPeer(open=one_by_one(), goal=3.0),
        VLLM: BankPeer(open=mixed, do=all_at_once, goal=2.0),
    }
    sides, absent, bundles = opened(monkeypatch, peers)
    assert absent == []
    bundles.bank.jobs.clear()
    assert {name: call() for name, call in sides.items()} == {
        MERGED: Reported(3.0),
        BANK: Reported(3.0),
        SAME: Reported(3.0),
        GENAI: Reported(ADAPTERS * 0.75),
        VLLM: Reported(2.5),
    }
    assert bundles.merged.jobs == [None]
    assert bundles.bank.jobs == [[f"a{index}" for index in range(ADAPTERS)], ["a0"] * ADAPTERS]


def test_a_peer_that_writes_other_tokens_is_not_timed_unless_rounding_may_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = {
        GENAI: BankPeer(open=one_by_one(wrong="a5"), goal=3.0),
        OPENVINO: BankPeer(open=one_by_one(wrong="a5"), goal=4.0, differing=1),
    }
    sides, absent, _ = opened(monkeypatch, peers)
    assert list(sides) == [MERGED, BANK, SAME, OPENVINO]
    reason = "it generates other tokens than ours through 1 of 8 adapters: times do not compare"
    assert absent == [Absent(peer=GENAI, reason=reason)]

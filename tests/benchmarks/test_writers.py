"""What the benchmarks of writing make of their times, on a tiny bank."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import agreement, continuous, generate_bank, roofline
from benchmarks.continuous import GENAI, OURS, Request, Served, Turns, poisson, serve_genai, serve_ours
from benchmarks.generate_bank import BANK, MERGED, one_at_a_time
from benchmarks.peers import Peer
from benchmarks.roofline import COPIED, COPY, read_by_a_step, weights_read
from benchmarks.support.generation_sides import Ours
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Timing
from serve.bundle.reader import open_bundle
from serve.generation.prompts import Prompt
from serve.limits import GenerationLimits
from serve.runtime.providers import usable_cores
from tests.adamix_train.conftest import writing_data
from tests.fixtures.generation_banks import NAMES, bank_of_writers

pytestmark = pytest.mark.slow

__all__ = ["writing_data"]


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer has to be there to conclude from its times."""
    monkeypatch.setattr(Peer, "versions", lambda self: {})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, writing_data: Path) -> Ours:
    bank = bank_of_writers("llama", tmp_path_factory.mktemp("llama"), writing_data)
    return Ours(open_bundle(bank), GenerationLimits(max_batch_requests=3, prefix_tokens=0))


def test_a_job_writes_every_row_through_its_adapter(ours: Ours) -> None:
    rows = [[4, 5, 6], [7, 8, 9], [4, 5, 6]]
    found = ours.write({"rows": rows, "new": 6, "adapters": NAMES})
    assert [len(tokens) for tokens in found["tokens"]] == [7, 7, 7]
    assert found["prefill"] > 0 and found["decode"] > 0
    job = {"rows": rows, "new": 6}
    singly = one_at_a_time(lambda one: ours.write({**one, "adapters": [one["adapter"]]}), job, NAMES)
    assert [one["tokens"][0] for one in singly] == found["tokens"]


def test_arrivals_are_a_poisson_process_that_a_seed_decides() -> None:
    requests = [Request(ids=[index], new=1) for index in range(400)]
    made = poisson(requests, 50.0, seed=1)
    assert [one.ids for one in made] == [one.ids for one in requests]
    times = np.sort([one.at for one in made])
    assert times[0] == 0
    assert np.diff(times).mean() == pytest.approx(1 / 50, rel=0.2)
    assert made == poisson(requests, 50.0, seed=1) != poisson(requests, 50.0, seed=2)
    assert [one.at for one in made] != sorted(one.at for one in made)


def test_requests_are_answered_as_they_come(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ours.generator.registry
    monkeypatch.setattr(registry, "adapters", {"one": registry.find("one")})
    requests = [Request(ids=[4, 5, 6], new=9, at=at) for at in (0.0, 0.01, 0.3)]
    found = serve_ours(ours, requests)
    assert found.step is not None and found.step > 0
    assert all(first > 0 for first in found.first)
    assert found.end > 0.3 + found.first[2]


def test_the_peers_times_are_those_of_its_requests() -> None:
    requests = [Request(ids=[1], new=3, at=2.0), Request(ids=[2], new=4, at=0.5)]
    sent: list[object] = []

    def peer(job: dict[str, object]) -> list[dict[str, float]]:
        sent.append(job["requests"])
        return [{"first": 0.7, "end": 1.0}, {"first": 2.5, "end": 3.0}]

    found = serve_genai(peer, 0, requests)
    assert sent == [[{"at": 0.5, "ids": [2], "new": 4}, {"at": 2.0, "ids": [1], "new": 3}]]
    assert found.first == pytest.approx([0.5, 0.2]) and found.end == 3.0


def test_goodput_and_steps_are_held_against_their_goals() -> None:
    mine = Turns([Served(first=[0.2, 0.6], end=2.0, step=0.1)])
    theirs = Turns([Served(first=[0.9, 1.9], end=5.0)])
    findings = continuous.findings_of({("fp32", 3.0): {OURS: mine, GENAI: theirs}}, {"fp32": [0.1, 0.1]}, 100, [], {})
    goodput, steps = findings.goals
    assert (goodput.value, goodput.met) == (2.5, True)
    assert (steps.value, steps.met) == (pytest.approx(4.8), True)
    assert findings.rows[0]["tokens_a_second"] == 50.0
    alone = continuous.findings_of({("fp32", 3.0): {OURS: mine}}, {"fp32": [0.1, 0.1]}, 100, [], {})
    assert (alone.goals[0].value, alone.goals[0].met, alone.worst) == (None, False, "no peer was there")


def test_a_bank_of_writers_is_held_against_the_merged_graph() -> None:
    sides = {MERGED: Timing([1.0]), BANK: Timing([1.2]), generate_bank.GENAI: Timing([4.8])}
    cost, gain = generate_bank.findings_of({"fp32": sides}, []).goals
    assert (cost.value, cost.met, gain.value, gain.met) == (1.2, False, pytest.approx(4.0), True)
    missing = generate_bank.findings_of(
        {"fp32": {MERGED: Timing([1.0]), BANK: Timing([1.0])}}, [Absent(peer="genai", reason="no")]
    )
    assert missing.goals[1].value is None


def test_a_step_reads_weights_whole_and_rows_of_tables() -> None:
    def weight(name: str, dtype: int, *shape: int) -> onnx.TensorProto:
        return onnx.TensorProto(name=name, data_type=dtype, dims=shape)

    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["x"]),
            helper.make_node("MatMul", ["x", "square"], ["y"]),
            helper.make_node("Gather", ["tied", "ids"], ["z"]),
            helper.make_node("MatMul", ["y", "tied"], ["w"]),
            helper.make_node("MatMulNBits", ["w", "quarter"], ["v"]),
        ],
        "graph",
        [],
        [],
        [
            weight("table", TensorProto.FLOAT, 100, 8),
            weight("square", TensorProto.FLOAT, 8, 8),
            weight("tied", TensorProto.FLOAT, 10, 8),
            weight("quarter", TensorProto.UINT8, 50),
            weight("unused", TensorProto.FLOAT, 1000),
        ],
    )
    assert weights_read(helper.make_model(graph), 2) == 2 * 8 * 4 + 64 * 4 + 80 * 4 + 50


def test_the_cache_counts_for_what_a_step_reads(ours: Ours) -> None:
    one, two = (read_by_a_step(ours.generator.bundle, rows) for rows in (1, 2))
    assert 0 < two - one < one


def test_a_step_is_held_against_a_copy() -> None:
    seconds = 2 * COPIED * usable_cores() / 10e9  # a copy of 10 GB/s
    sides = {"fp32, 1 rows": Timing([0.1]), COPY: Timing([seconds])}
    (goal,) = roofline.findings_of({"fp32, 1 rows": sides}, {"fp32, 1 rows": 700_000_000}).goals
    assert (goal.value, goal.met) == (pytest.approx(0.7), True)


def test_texts_that_differ_are_counted(ours: Ours) -> None:
    prompts = [Prompt([4], ours.generator.registry.find("one"))] * 3
    texts = agreement.Texts("greedy", None, prompts, [[1, 2], [3], []], [[1, 2], [4], []])  # type: ignore[arg-type]
    assert (texts.differing, texts.share) == ([1], pytest.approx(2 / 3))

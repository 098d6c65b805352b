from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.support import arrivals
from benchmarks.support.arrivals import Request, Served, Turns, e2e_requests, poisson, serve_ours, serve_peer
from benchmarks.support.generation_sides import Ours


def test_arrivals_are_a_poisson_process_that_a_seed_decides() -> None:
    requests = [Request(ids=[index], new=1) for index in range(400)]
    made = poisson(requests, 50.0, seed=1)
    assert [one.ids for one in made] == [one.ids for one in requests]
    times = np.sort([one.at for one in made])
    assert times[0] == 0
    assert np.diff(times).mean() == pytest.approx(1 / 50, rel=0.2)
    assert made == poisson(requests, 50.0, seed=1) != poisson(requests, 50.0, seed=2)
    assert [one.at for one in made] != sorted(one.at for one in made)


@pytest.mark.slow
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

    found = serve_peer(peer, 0, requests)
    assert sent == [[{"at": 0.5, "ids": [2], "new": 4}, {"at": 2.0, "ids": [1], "new": 3}]]
    assert found.first == pytest.approx([0.5, 0.2]) and found.end == 3.0


def test_figures_of_several_runs_are_medians_of_theirs() -> None:
    runs = [
        Served(first=[1.0, 2.0, 3.0], end=4.0, step=0.5),
        Served(first=[2.0, 4.0, 6.0], end=9.0, step=1.0),
        Served(first=[10.0, 10.0, 10.0], end=5.0),
    ]
    turns = Turns(runs)
    assert (turns.end, turns.first(50)) == (5.0, 4.0)
    assert turns.steps([1.0, 1.0, 1.0], 50) == 2.5, "of 2 and 3; the last run has no steps"
    assert Turns(runs[2:]).steps([1.0, 1.0, 1.0], 50) is None


def test_a_request_asks_for_as_many_tokens_as_its_first_reference_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "set.csv"
    file.write_text("mr,ref\na,one two three\na,one\nb,one\nc,one two\nd,one\n")
    generator = SimpleNamespace(
        tokenizer=SimpleNamespace(encode=lambda text: SimpleNamespace(ids=text.split())),
        prompt=lambda text: SimpleNamespace(input_ids=[ord(text)]),
    )
    ours: Any = SimpleNamespace(generator=generator)
    monkeypatch.setattr(arrivals, "e2e_file", lambda: file)
    monkeypatch.setattr(arrivals, "REQUESTS", 2)
    assert e2e_requests(ours) == [Request(ids=[ord("a")], new=3), Request(ids=[ord("c")], new=2)]

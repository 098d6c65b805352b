from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import batching
from benchmarks.batching import BUDGETS, name_of, sides_of
from benchmarks.support.rounds import Pace, Timing


def test_choices_are_held_against_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default, best = name_of(512, 1), name_of(256, 2)
    timings = {
        "fp32": {default: Timing([4.0]), best: Timing([2.0])},
        "int8": {default: Timing([1.0]), best: Timing([0.8])},
    }
    for name in ("sentences", "trained", "exported", "in_int8", "sides_of"):
        monkeypatch.setattr(batching, name, lambda *_: None)
    monkeypatch.setattr(batching, "measure", lambda cases, pace: timings)
    findings = batching.compare_batching(Pace(rounds=1))
    assert [(row["precision"], row["choice"], row["texts_per_second"], row["by_default"]) for row in findings.rows] == [
        ("fp32", "512 tokens, one after another", 250.0, 1.0),
        ("fp32", "256 tokens, 2 side by side", 500.0, 2.0),
        ("int8", "512 tokens, one after another", 1000.0, 1.0),
        ("int8", "256 tokens, 2 side by side", pytest.approx(1250.0), 1.25),
    ]
    assert findings.worst == (
        "the default has 0.500 of the throughput of the best choice (256 tokens, 2 side by side in fp32)"
    )


def test_every_choice_runs_in_an_engine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(bundle: Any, *, provider: str, batch_tokens: int, streams: int) -> Any:
        return lambda texts: (batch_tokens, streams, texts)

    monkeypatch.setattr(batching, "Classifier", engine)
    monkeypatch.setattr(batching, "usable_cores", lambda: 3)
    bundle: Any = SimpleNamespace()
    found = {name: call() for name, call in sides_of(bundle, ["a text"]).items()}
    assert found == {
        name_of(budget, streams): (budget, streams, ["a text"]) for streams in (1, 3) for budget in BUDGETS
    }
    assert len(found) == 2 * len(BUDGETS)

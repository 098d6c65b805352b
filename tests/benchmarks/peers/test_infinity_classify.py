"""The program of infinity-emb, over an engine that counts letters."""

import json
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.peers.programs import load_program


class Engine:
    def __init__(self) -> None:
        self.started = False

    async def astart(self) -> None:
        self.started = True

    async def classify(self, *, sentences: list[str]) -> tuple[list[list[dict[str, Any]]], int]:
        """Return the labels of each text in the order of their scores, as the engine does."""
        assert self.started
        texts = [[{"label": "long", "score": len(text) / 10}, {"label": "short", "score": 1 - len(text) / 10}]
                 for text in sentences]  # fmt: skip
        return [sorted(text, key=lambda one: -one["score"]) for text in texts], 0


def test_scores_are_in_the_order_of_the_models_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "short", "1": "long"}}))
    infinity = ModuleType("infinity_emb")
    vars(infinity).update(
        EngineArgs=SimpleNamespace,
        AsyncEmbeddingEngine=SimpleNamespace(
            from_args=lambda arguments: Engine() if arguments.model_name_or_path == str(tmp_path) else None
        ),
    )
    program = load_program("infinity_classify", monkeypatch, infinity_emb=infinity)
    monkeypatch.setattr(program, "SETTINGS", {})
    found = program.Classifier(tmp_path).classify({"texts": ["a", "abcdefgh"]})
    expected = [[math.log(0.9), math.log(0.1)], [math.log(0.2), math.log(0.8)]]
    assert found["logits"] == [pytest.approx(row) for row in expected]
    assert found["seconds"] >= 0

"""A classifier whose batches wait until a test lets them run."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText
from serve.prediction import Prediction


@dataclass(frozen=True)
class Gate:
    """A gate that every batch waits at."""

    opened: threading.Event
    reached: threading.Event


@pytest.fixture
def gate(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(threading.Event(), threading.Event())
    run = classifier.run

    def gated(rows: Sequence[EncodedText], alone: bool) -> list[Prediction]:
        made.reached.set()
        assert made.opened.wait(10)
        return run(rows, alone)

    monkeypatch.setattr(classifier, "run", gated)
    return made

"""A classifier whose batches wait until a test lets them run, and a server of chats with tools."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from starlette.testclient import TestClient

from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.prediction import Prediction
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES


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


@pytest.fixture(scope="module")
def chat_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = write_byte_bundle(tmp_path_factory.mktemp("bytes") / "bundle", HERMES)
    generator = Generator(folder, provider="cpu", threads=1)
    with TestClient(make_app(AsyncTextGenerator(generator)), raise_server_exceptions=False) as client:
        yield client

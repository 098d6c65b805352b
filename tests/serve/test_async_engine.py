import asyncio
from pathlib import Path

import pytest

from serve.async_engine import AsyncEngine
from serve.classification.classifier import Classifier
from serve.engine import Event, SequenceFinished
from serve.errors import DeviceLost, UnknownAdapter
from serve.generated_text import FinishReason
from tests.serve.conftest import Reference, write_adapter


class Recorder(AsyncEngine):
    """Writes down when it starts and drains."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier.model, classifier.registry)
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")

    async def drain(self) -> None:
        self.calls.append("drain")


@pytest.fixture
def engine(classifier: Classifier) -> Recorder:
    return Recorder(classifier)


def finished(adapter: str) -> SequenceFinished:
    return SequenceFinished(
        adapter=adapter,
        finish_reason=FinishReason.STOP,
        prompt_tokens=1,
        generated_tokens=1,
        first_token_seconds=None,
        decode_seconds=None,
    )


def test_async_with_starts_the_engine_and_drains_it(engine: Recorder) -> None:
    async def use() -> None:
        async with engine as entered:
            assert entered is engine
            engine.calls.append("used")

    asyncio.run(use())
    assert engine.calls == ["start", "used", "drain"]


def test_an_error_inside_is_raised_after_the_drain(engine: Recorder) -> None:
    async def fail() -> None:
        async with engine:
            raise UnknownAdapter("nobody")

    with pytest.raises(UnknownAdapter, match="nobody"):
        asyncio.run(fail())
    assert engine.calls == ["start", "drain"]


def test_an_event_reaches_every_listener_from_its_subscription_on(engine: Recorder) -> None:
    early: list[Event] = []
    late: list[Event] = []
    engine.subscribe(early.append)
    engine.report(finished("tone"))
    engine.subscribe(late.append)
    engine.report(finished("intent"))
    assert early == [finished("tone"), finished("intent")]
    assert late == [finished("intent")]


def test_the_adapters_that_are_loaded_are_listed_until_they_are_unloaded(
    engine: Recorder, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "match", reference, "match")
    loaded = engine.load(tmp_path / "match")
    assert (loaded.name, loaded.pairs) == ("match", True)
    assert [model.name for model in engine.models()] == ["tone", "intent", "match"]
    assert engine.models()[2] == loaded
    engine.unload("tone")
    assert [model.name for model in engine.models()] == ["intent", "match"]


def test_a_lost_device_is_remembered_and_later_requests_are_refused(engine: Recorder) -> None:
    with pytest.raises(UnknownAdapter), engine.watch_device():
        raise UnknownAdapter("nobody")
    assert engine.failure is None
    with pytest.raises(DeviceLost, match="gone"), engine.watch_device():
        raise DeviceLost("the GPU is gone")
    assert engine.failure == "the GPU is gone"
    reached = []
    with pytest.raises(DeviceLost, match="the GPU is gone"), engine.watch_device():
        reached.append(True)
    assert not reached

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from serve.events import SequenceFinished, Stage, StageFinished
from serve.generated_text import FinishReason
from serve.request_context import RequestContext, current_request
from serve.telemetry.access_log import AccessLog
from serve.telemetry.exchange import Exchange
from serve.telemetry.request_observer import RequestObserver
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.telemetry.exchanges import exchange


class ListTracer:
    """Keeps what it is given of sampled requests."""

    def __init__(self, *, is_sampled: bool = True) -> None:
        self.is_sampled = is_sampled
        self.finished: list[tuple[str, list[Any]]] = []

    def begin(self, request: RequestContext) -> bool:
        request.trace = "a trace"
        return self.is_sampled

    def traceresponse(self, request: RequestContext) -> str:
        return f"{request.trace} of {request.request_id}"

    def finish(self, request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> None:
        self.finished.append((request.request_id, list(events)))

    def close(self) -> None:
        pass


def stage_of(*requests: RequestContext | None) -> StageFinished:
    return StageFinished(stage=Stage.TOKENIZE, requests=requests, start_time=0.0, seconds=1.0)


def test_an_engine_is_heard_only_where_somebody_asks() -> None:
    engine = ToyEngine()
    observer = RequestObserver(engine)
    assert engine.listeners == []
    request = observer.begin("mine")
    assert (request.request_id, request.events) == ("mine", None)
    assert current_request.get() is request
    assert not observer.wants(request, failed=True)


def test_an_event_goes_to_the_requests_that_it_belongs_to_until_they_are_answered() -> None:
    engine, tracer = ToyEngine(), ListTracer()
    observer = RequestObserver(engine, tracer=tracer)
    one, two = observer.begin("one"), observer.begin("two")
    engine.report(shared := stage_of(one, None, two, one))
    engine.report(own := stage_of(two))
    observer.finish(one, exchange())
    engine.report(late := stage_of(one, two))
    observer.finish(two, exchange())
    assert tracer.finished == [("one", [shared]), ("two", [shared, own, late])]
    assert (one.events, two.events) == (None, None)


def test_what_is_neither_logged_nor_sampled_is_not_recorded() -> None:
    observer = RequestObserver(ToyEngine(), access_log=AccessLog(0.0), tracer=ListTracer(is_sampled=False))
    request = observer.begin()
    assert request.events is None
    assert not observer.wants(request, failed=False)
    assert observer.traceresponse(request) == f"a trace of {request.request_id}"
    assert observer.traceresponse(observer.begin(is_traced=False)) is None


@pytest.mark.parametrize(
    ("share", "answer", "lines"),
    [
        (0.0, exchange(), 0),
        (0.0, exchange(status=500, failed=True), 1),
        (0.0, exchange(status=503, failed=True, is_probe=True), 0),
        (1.0, exchange(), 1),
        (1.0, exchange(status=503, failed=True, is_probe=True), 1),
    ],
)
def test_a_failure_of_the_server_is_logged_always_but_that_of_a_health_check(
    share: float, answer: Exchange, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    observer = RequestObserver(ToyEngine(), access_log=AccessLog(share))
    with caplog.at_level(logging.INFO):
        request = observer.begin()
        if observer.wants(request, failed=answer.failed):
            observer.finish(request, answer)
    assert len(caplog.records) == lines


def test_requests_side_by_side_have_contexts_of_their_own() -> None:
    observer = RequestObserver(ToyEngine())

    async def handle(name: str) -> bool:
        request = observer.begin(name)
        await asyncio.sleep(0.01)
        return current_request.get() is request

    async def together() -> list[bool]:
        return await asyncio.gather(*(handle(str(number)) for number in range(8)))

    assert asyncio.run(together()) == [True] * 8


def test_an_event_without_requests_is_nobodys() -> None:
    engine = ToyEngine()
    observer = RequestObserver(engine, access_log=AccessLog(1.0))
    request = observer.begin()
    ended = SequenceFinished(
        adapter="toy",
        finish_reason=FinishReason.STOP,
        prompt_tokens=1,
        generated_tokens=1,
        first_token_seconds=None,
        decode_seconds=None,
    )
    engine.report(ended)
    assert request.events == []

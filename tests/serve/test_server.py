import asyncio
import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.engine import Engine, EngineStats
from serve.errors import DeviceLost
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.readiness import Readiness
from serve.server import Server
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.fixtures.toy_engine import ToyEngine


@contextlib.contextmanager
def serving(engine: Engine, **options: Any) -> Iterator[tuple[Server, httpx.Client]]:
    """Run a server in a thread; it is told to stop at the end, and has ended then."""
    readiness = Readiness(engine, is_warm=False)
    config = uvicorn.Config(make_app(engine, readiness=readiness), port=0, log_level="warning", lifespan="on")
    server = Server(config, engine, readiness, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        yield server, client
    server.handle_exit(signal.SIGTERM, None)
    thread.join(10)
    assert not thread.is_alive()


def eventually(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncTextGenerator:
    """A generator whose texts take longer than its server lives."""
    engine = AsyncTextGenerator(Generator(write_byte_bundle(tmp_path / "bytes", HERMES), provider="cpu", threads=1))
    step = engine.scheduler.step

    def slowed() -> None:
        time.sleep(0.02)
        step()

    async def no_warm_up() -> None:
        pass

    monkeypatch.setattr(engine.scheduler, "step", slowed)
    monkeypatch.setattr(engine, "warm_up", no_warm_up)
    return engine


def test_the_engine_hears_that_the_server_stops_before_open_requests_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = ToyEngine()

    async def wait(server: uvicorn.Server, sockets: object = None) -> None:
        engine.calls.append("open requests")

    monkeypatch.setattr(uvicorn.Server, "shutdown", wait)
    asyncio.run(Server(uvicorn.Config(make_app(engine)), engine, Readiness(engine)).shutdown())
    assert engine.calls == ["prepare_to_drain", "open requests"]


def test_a_server_is_live_before_it_is_ready_and_ready_once_it_has_warmed_up(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, gate = AsyncClassifier(classifier), threading.Event()
    warm_up = engine.warm_up

    async def gated() -> None:
        await asyncio.to_thread(gate.wait, 10)
        await warm_up()

    monkeypatch.setattr(engine, "warm_up", gated)
    with serving(engine) as (_, client):
        for path in ("/health/live", "/v2/health/live", "/health"):
            assert client.get(path).status_code == 200
        for path in ("/health/ready", "/v2/health/ready", "/v2/models/tone/ready"):
            unready = client.get(path)
            assert (unready.status_code, "warming up" in unready.text) == (503, True)
        gate.set()
        eventually(lambda: client.get("/health/ready").status_code == 200)
        assert client.get("/v2/health/ready").json() == {"ready": True}


class LostEngine(ToyEngine):
    """An engine whose warm-up finds that the GPU is lost."""

    failure: str | None = None

    def stats(self) -> EngineStats:
        return replace(super().stats(), failure=self.failure)

    async def warm_up(self) -> None:
        self.failure = "the GPU failed"
        raise DeviceLost(self.failure)


class FaultyEngine(ToyEngine):
    """An engine whose warm-up has a bug."""

    async def warm_up(self) -> None:
        raise ValueError("a bug")


def test_a_device_that_is_lost_in_the_warm_up_is_not_live(caplog: pytest.LogCaptureFixture) -> None:
    with serving(LostEngine()) as (_, client):
        eventually(lambda: client.get("/health/live").status_code == 503)
        assert client.get("/health/ready").json()["error"] == "the GPU failed"
    assert "Traceback" not in caplog.text


def test_a_bug_in_the_warm_up_is_logged_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with serving(FaultyEngine()) as (_, client):
        eventually(lambda: client.get("/health/ready").status_code == 200)
    assert "a bug" in caplog.text


def test_a_server_that_drains_is_unready_takes_requests_and_then_closes_its_port(classifier: Classifier) -> None:
    with serving(AsyncClassifier(classifier), drain_delay=1.0) as (server, client):
        eventually(lambda: client.get("/health/ready").status_code == 200)
        told = time.monotonic()
        server.handle_exit(signal.SIGTERM, None)
        eventually(lambda: client.get("/health/ready").status_code == 503)
        with httpx.Client(base_url=client.base_url) as other:  # a new connection is taken
            live = other.get("/health/live")
            assert (live.status_code, live.headers["connection"]) == (200, "close")
            assert other.get("/v2/health/ready").status_code == 503
            assert other.post("/v2/repository/index", json={"ready": True}).json() == []
            assert other.get("/health").json()["error"] == "the server is stopping"
            assert other.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code == 200
        assert time.monotonic() - told < 1.0
        time.sleep(max(0, told + 1.5 - time.monotonic()))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{client.base_url}/health")


def test_a_second_sigint_ends_the_wait_for_proxies(classifier: Classifier) -> None:
    started = time.monotonic()
    with serving(AsyncClassifier(classifier), drain_delay=60) as (server, _):
        server.handle_exit(signal.SIGINT, None)
        server.handle_exit(signal.SIGINT, None)
    assert time.monotonic() - started < 10


STREAMS = {
    "/v1/completions": {"prompt": "a", "model": "north", "max_tokens": 900, "ignore_eos": True, "stream": True},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "a"}],
        "model": "north",
        "max_tokens": 900,
        "ignore_eos": True,
        "stream": True,
    },
    "/v2/models/north/generate_stream": {"text_input": "a", "max_tokens": 900, "ignore_eos": True},
    "/models/north": {"inputs": "a", "parameters": {"max_new_tokens": 900}, "stream": True},
}


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_stream_that_is_cut_off_ends_with_an_error(
    slow_generator: AsyncTextGenerator, caplog: pytest.LogCaptureFixture, path: str, signals: list[signal.Signals]
) -> None:
    exit_timeout = 0.3 if len(signals) == 1 else 60
    with (
        serving(slow_generator, exit_timeout=exit_timeout) as (server, client),
        client.stream("POST", path, json=STREAMS[path]) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        for number in signals:
            server.handle_exit(number, None)
        events = [line.removeprefix("data: ") for line in lines if line]
    if path.startswith("/v1/"):
        assert events.pop() == "[DONE]"
    error = json.loads(events[-1])["error"]
    message = error["message"] if path.startswith("/v1/") else error
    assert message == "the server stopped before this was answered; send the request to another one"
    assert server.unanswered == 1
    assert not [record for record in caplog.records if record.exc_info]


def test_a_text_that_is_not_streamed_is_503_when_it_is_cut_off(slow_generator: AsyncTextGenerator) -> None:
    body = {**STREAMS["/v1/completions"], "stream": False}
    answers = []
    with serving(slow_generator, exit_timeout=0.3) as (server, client):
        asking = threading.Thread(target=lambda: answers.append(client.post("/v1/completions", json=body)))
        asking.start()
        eventually(lambda: slow_generator.stats().active_sequences == 1)
        server.handle_exit(signal.SIGTERM, None)
        asking.join()
    assert [answer.status_code for answer in answers] == [503]
    assert server.unanswered == 1


def test_a_stream_of_grpc_is_cut_off_at_the_same_time(slow_generator: AsyncTextGenerator) -> None:
    grpc = pytest.importorskip("grpc")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE, GrpcServer

    asked = MESSAGES["ModelInferRequest"](model_name="north")
    asked.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    asked.parameters["max_tokens"].int64_param = 900
    asked.parameters["ignore_eos"].bool_param = True
    grpc_server = GrpcServer(slow_generator, "127.0.0.1", 0, limit=64, payload_limit=1000)
    started = time.monotonic()
    with serving(slow_generator, exit_timeout=0.3, grpc=grpc_server) as (server, _):
        eventually(lambda: server.background == set())
        with grpc.insecure_channel(f"127.0.0.1:{grpc_server.port}") as channel:
            stream = channel.stream_stream(
                f"/{SERVICE}/ModelStreamInfer",
                request_serializer=lambda one: one.SerializeToString(),
                response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
            )
            responses = stream(iter([asked]))
            next(responses)
            server.handle_exit(signal.SIGTERM, None)
            with pytest.raises(grpc.RpcError) as error:
                list(responses)
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert server.unanswered == 1
    assert time.monotonic() - started < 10


def test_what_is_answered_within_the_time_to_exit_is_not_counted(slow_generator: AsyncTextGenerator) -> None:
    """Nor is a text whose client has left."""
    with serving(slow_generator) as (server, client):
        with client.stream("POST", "/v1/completions", json=STREAMS["/v1/completions"]) as left:
            next(left.iter_lines())
        body = {**STREAMS["/v1/completions"], "max_tokens": 20}
        with client.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            server.handle_exit(signal.SIGTERM, None)
            assert [line for line in lines if line][-1] == "data: [DONE]"
    assert slow_generator.stats().abandoned == 1
    assert server.unanswered == 0


def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    slow_generator: AsyncTextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.server.LAST_WORDS_SECONDS", 0.3)
    started = time.monotonic()
    with (
        serving(slow_generator, exit_timeout=0.3) as (server, client),
        client.stream("POST", "/v1/completions", json=STREAMS["/v1/completions"]),
    ):
        server.handle_exit(signal.SIGTERM, None)
        eventually(lambda: not server.server_state.connections)
    assert time.monotonic() - started < 10
    assert server.unanswered == 1


def test_a_reload_runs_beside_requests_and_its_errors_end_nothing(
    classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    reloads = []

    def reload() -> None:
        reloads.append(threading.current_thread() is threading.main_thread())
        raise ValueError("a bug")

    with serving(AsyncClassifier(classifier), on_reload=reload) as (server, client):
        for count in (1, 2):
            server.handle_reload(signal.SIGHUP, None)
            eventually(lambda count=count: len(reloads) == count)  # type: ignore[misc]
            assert client.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code == 200
    assert not any(reloads)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == ["a bug", "a bug"]

import asyncio
import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from serve.event_loop import ServerLoop
from serve.generated_text import GenerationResult
from serve.http.app import make_app
from serve.http.server_protocol import Connections
from serve.requests import GenerationRequest
from serve.telemetry.access_log import AccessLog
from serve.telemetry.request_observer import RequestObserver
from tests.fixtures.toy_engine import ToyEngine

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"prompt": "a"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LINGER_NOT = b"\1\0\0\0\0\0\0\0"
"""Value of SO_LINGER with which closing a connection resets it."""


class SlowEngine(ToyEngine):
    """Takes a quarter of a second, whoever waits."""

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.25)
        return await super().generate(request)


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[tuple[str, int]]:
    """Serve on the loop and the protocol of adamix-serve in a thread."""
    protocol: Any = Connections(app.state.error_responder.response)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http=protocol, ws="none", lifespan="on"))

    def run() -> None:
        with asyncio.Runner(loop_factory=ServerLoop) as runner:
            runner.run(server.serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(10)


def counted(place: tuple[str, int], requests: int) -> dict[str, float]:
    """Return the number of requests by status, once there are so many."""
    end = time.monotonic() + 10
    while True:
        text = httpx.get(f"http://{place[0]}:{place[1]}/metrics").text
        found = {code: float(n) for code, n in re.findall(r'adamix_requests_total\{code="(\d+)".* (\S+)\n', text)}
        if sum(found.values()) >= requests:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.02)


def logged(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [vars(one)["fields"]["status"] for one in caplog.records if one.name == "serve.telemetry.access_log"]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize(
    ("sent", "status"), [(CHUNKED + b"ZZ\r\n", 400), (CHUNKED + b"f\r\n" + BODY, 499), (WHOLE[:-3], 499)]
)
def test_a_body_that_is_no_http_is_a_400_and_one_that_breaks_off_a_499(
    sent: bytes, status: int, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ToyEngine()
    app = make_app(engine, observer=RequestObserver(engine, access_log=AccessLog(share)))
    with caplog.at_level(logging.INFO), serving(app) as place:
        with socket.create_connection(place, timeout=10) as connection:
            connection.sendall(sent)
            if status == 400:
                assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
            else:
                time.sleep(0.1)
        assert counted(place, 1) == {str(status): 1.0}
    assert [one for one in logged(caplog) if one != 200] == ([status] if share else [])


def test_headers_without_end_behind_a_body_are_a_400() -> None:
    with serving(make_app(ToyEngine())) as place:
        with socket.create_connection(place, timeout=10) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(CHUNKED + b"f\r\n" + BODY + b"\r\n0\r\na: ")
            for _ in range(200):
                connection.sendall(b"x" * 10_000)
        assert counted(place, 1) == {"400": 1.0}


def test_a_client_that_leaves_between_pipelined_requests_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), serving(make_app(SlowEngine())) as place:
        for _ in range(3):
            with socket.create_connection(place, timeout=10) as connection:
                connection.sendall(WHOLE * 2)
                time.sleep(0.1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        found = counted(place, 3)
        time.sleep(0.3)
    assert found == {"499": 3.0}
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]

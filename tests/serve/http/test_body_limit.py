import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from serve.classification.classifier import Classifier
from serve.http import body_limit
from serve.http.app import PROTOCOLS, make_app
from serve.http.body_limit import BodyLimitMiddleware
from serve.http.error_responses import ErrorResponder
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import live_app, live_server

ROUTES = {
    re.sub("{[^}]*}", "toy", route.path)
    for one in PROTOCOLS.values()
    for router in one.routers
    for route in router.routes
    if "POST" in route.methods  # type: ignore[attr-defined]
}
"""Every route that takes a body."""


def sent(client: httpx.Client, head: str, body: bytes = b"") -> tuple[bytes, float]:
    """Send a request, and return all that comes until the connection ends, and the seconds until the first of it."""
    started = time.monotonic()
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        received = connection.recv(100_000)
        seconds = time.monotonic() - started
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(100_000):
            received += more
    return received, seconds


@pytest.mark.parametrize("expect", ["", "\r\nExpect: 100-continue"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_body_that_is_announced_to_be_too_large_is_413_at_once(version: str, expect: str) -> None:
    """Nothing of the body is sent; every protocol has its own form of the error."""
    with live_app(make_app(ToyEngine(), payload_limit=1000, body_timeout=8)) as client:
        for path in ROUTES:
            head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Length: 1001{expect}"
            received, seconds = sent(client, head)
            assert received.startswith(b"HTTP/1.1 413 "), path
            assert seconds < 2
            assert received.count(b"HTTP/1.1") == 1, "no 100 Continue before it, and nothing behind it"
            assert b"connection: close" in received.lower()
            answer = received.partition(b"\r\n\r\n")[2]
            assert answer == client.post(path, content=b"x" * 1001).content
            assert b"the request has more than 1000 bytes: send less at once" in answer


def test_a_client_that_sends_on_reads_the_413(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of 8 MB is more than the buffers of both ends hold; a connection that is reset would lose the response."""
    with live_app(make_app(ToyEngine(), payload_limit=1000)) as client:
        for _ in range(5):
            assert client.post("/v1/completions", content=b"x" * 8_000_000).status_code == 413
            assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_a_client_that_waits_to_be_told_is_told_to_go_on() -> None:
    body = b'{"prompt": "a"}'
    with live_app(make_app(ToyEngine(), payload_limit=1000)) as client:
        place = (client.base_url.host, client.base_url.port)
        with socket.create_connection(place, timeout=10) as connection:
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")


def test_a_body_over_the_limit_is_413(classifier: Classifier) -> None:
    with live_server(classifier, payload_limit=1000) as client:
        assert client.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code == 200
        response = client.post("/predict", json={"inputs": "x" * 1001, "adapter": "tone"})
        assert (response.status_code, response.json()["error_type"]) == (413, "payload_too_large")


def test_a_body_whose_length_is_not_announced_is_limited_as_well() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    with TestClient(make_app(ToyEngine(), payload_limit=1000)) as client:
        response = client.post("/v1/completions", content=chunks())
    assert response.status_code == 413
    assert response.json()["error"] == {
        "message": "the request has more than 1000 bytes: send less at once",
        "type": "invalid_request_error",
        "param": None,
        "code": "payload_too_large",
    }


def dribbled(client: httpx.Client, path: str, header: str = "Content-Length: 1000") -> tuple[bytes, float]:
    """Send a body byte by byte; return the response and the seconds until the server closed the connection."""
    started, received = time.monotonic(), b""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        connection.settimeout(0.05)
        with contextlib.suppress(ConnectionError):  # closed
            while time.monotonic() - started < 10:
                with contextlib.suppress(TimeoutError):
                    received += (more := connection.recv(10_000))
                    if not more:
                        break
                connection.sendall(b"x")
    return received, time.monotonic() - started


@pytest.mark.parametrize("path", ["/v1/completions", "/v2/models/toy/generate", "/predict"])
def test_a_body_that_comes_byte_by_byte_is_408_and_ends_the_connection(path: str) -> None:
    with live_app(make_app(ToyEngine(), body_timeout=0.3)) as client:
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200
        received, seconds = dribbled(client, path)
        lines = client.get("/metrics").text.splitlines()
    assert 0.3 <= seconds < 5
    assert received.startswith(b"HTTP/1.1 408") and b"connection: close" in received.lower()
    assert b"the body has not arrived within 0.3 s: send it faster, or less at once" in received
    assert 'adamix_requests_total{code="408",method="POST"} 1.0' in lines


def test_a_body_that_is_refused_does_not_keep_the_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "LINGER_SECONDS", 0.5)
    with live_app(make_app(ToyEngine(), payload_limit=2, body_timeout=0.3)) as client:
        compressed, at_once = dribbled(client, "/predict", "Content-Encoding: gzip\r\nContent-Length: 1000")
        long, later = dribbled(client, "/predict")
    assert compressed.startswith(b"HTTP/1.1 415") and at_once < 5
    assert long.startswith(b"HTTP/1.1 413") and later < 5


def test_bodies_of_all_requests_are_bounded_together() -> None:
    async def received(body: bytes) -> list[int]:
        """Return the status for a body beside one that is held, and for one after it."""
        held = asyncio.Event()

        async def hold(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if not held.is_set():
                held.set()
                await asyncio.sleep(0.2)
            await Response("")(scope, receive, send)

        app = BodyLimitMiddleware(
            hold, limit=100, total_limit=150, timeout=10, errors=ErrorResponder(PROTOCOLS.values())
        )

        async def ask() -> int:
            statuses: list[int] = []

            async def receive() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: Message) -> None:
                statuses.append(message.get("status", 0))

            await app({"type": "http", "path": "/predict", "headers": [], "method": "POST"}, receive, send)
            return statuses[0]

        first = asyncio.create_task(ask())
        await held.wait()
        second = await ask()
        await first
        assert app.total == 0
        return [second, await ask()]

    assert asyncio.run(received(b"x" * 80)) == [503, 200]
    assert asyncio.run(received(b"x" * 70)) == [200, 200]

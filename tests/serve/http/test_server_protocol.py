import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serve.connection_limits import ConnectionLimits
from serve.http.protocol import ErrorKind
from serve.http.server_protocol import Connections

BODY = b'{"text": "\\r\\nUpgrade: x"}'
RAW = b"\r\nUpgrade: in the body\r\n\r\n"


HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
LIMITS = ConnectionLimits(max_connections=4, header_limit=4096, max_headers=20, header_timeout=0.5, write_timeout=0.5)


def respond(path: str, message: str, kind: ErrorKind) -> Response:
    return JSONResponse({"path": path, "error": message}, kind.status)


@contextlib.contextmanager
def serving(limits: ConnectionLimits) -> Iterator[tuple[uvicorn.Server, int]]:
    """Serve a body's length and start, and the headers that came; a stream without end; and a health check."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, object]:
        return {"body": (await request.body()).decode(), "upgrade": request.headers.get("upgrade")}

    @app.post("/refuse")
    async def refuse(request: Request) -> Response:
        return Response("no", 401)

    @app.get("/health")
    async def health() -> str:
        return "well"

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 100_000

        return StreamingResponse(parts())

    protocol: Any = Connections(respond, limits)
    config = uvicorn.Config(app, port=0, log_level="error", http=protocol, ws="none", timeout_keep_alive=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(ConnectionLimits()) as (_, port):
        yield port


@pytest.fixture
def small() -> Iterator[tuple[uvicorn.Server, int]]:
    """A server with limits that are soon reached."""
    with serving(LIMITS) as served:
        yield served


def asked(port: int, *pieces: bytes) -> dict[str, object]:
    """Send the pieces of a request one after another, and return what is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        found: dict[str, object] = json.loads(answer.read())
    return found


@pytest.mark.parametrize("body", [BODY, RAW])
@pytest.mark.parametrize("name", [b"Upgrade", b"UPGRADE"])
def test_a_request_that_offers_another_protocol_is_answered_with_its_body(port: int, name: bytes, body: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n" + name + b": h2c\r\n"
    head += b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert asked(port, head + body) == {"body": body.decode(), "upgrade": None}
    assert asked(port, head, body) == {"body": body.decode(), "upgrade": None}
    assert asked(port, head[:60], head[60:] + body[:5], body[5:])["body"] == body.decode()


def test_other_requests_are_left_alone(port: int) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(RAW)
    assert asked(port, head + RAW) == {"body": RAW.decode(), "upgrade": None}


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            found += part
    return found


def read_answer(connection: socket.socket) -> bytes:
    """Return one response, whose body has a length."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(1)
    length = int(found.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while not found.partition(b"\r\n\r\n")[2][length - 1 :]:
        found += connection.recv(1)
    return found


def ask(connection: socket.socket, path: bytes = b"/health") -> int:
    """Return the status of a request on a connection that is open."""
    connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def eventually(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


HEADERS = {
    "a long value": b"a: " + b"x" * 5000 + b"\r\n",
    "a long name": b"x" * 5000 + b": a\r\n",
    "many": b"".join(b"a%d: b\r\n" % number for number in range(21)),
}


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_are_too_large_or_too_many_are_431(small: Any, kind: str, pieces: int) -> None:
    head = HEAD + HEADERS[kind] + b"\r\n"
    with connect(small[1]) as connection:
        size = len(head) // pieces + 1
        for start in range(0, len(head), size):
            with contextlib.suppress(ConnectionError):
                connection.sendall(head[start : start + size])
            time.sleep(0.02)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"have more than 4096 bytes, or the headers are more than 20: send fewer" in answer


def test_headers_without_end_are_431_before_they_end(small: Any) -> None:
    with connect(small[1]) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(HEAD)
        for _ in range(100):
            connection.sendall(b"a: " + b"x" * 10_000 + b"\r\n")
            time.sleep(0.005)
        raise AssertionError("a megabyte of headers was taken")


def test_headers_up_to_the_limits_are_taken_with_any_body(small: Any) -> None:
    body = b"y" * 100_000
    head = HEAD + b"a: " + b"x" * 3500 + b"\r\n" + b"b: c\r\n" * 17 + b"Content-Length: %d\r\n\r\n" % len(body)
    assert asked(small[1], head + body)["body"] == body.decode()
    assert asked(small[1], head[:100], head[100:] + body[:10], body[10:])["body"] == body.decode()


def test_half_a_head_is_408_after_its_time(small: Any) -> None:
    """Also one of which a byte comes at a time, and line ends without a head."""
    for part, more in ((b"P", b"O"), (b"POST /echo HTTP/1.1\r\nHo", b"s"), (b"\r\n", b"\r\n")):
        started = time.monotonic()
        with connect(small[1]) as connection:
            connection.sendall(part)
            time.sleep(0.3)
            connection.sendall(more)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the headers have not arrived within 0.5 s: send them faster" in answer
        assert 0.4 < time.monotonic() - started < 1.5


def test_a_second_head_has_its_own_time(small: Any) -> None:
    with connect(small[1]) as connection:
        assert ask(connection) == 200
        time.sleep(0.8)
        assert ask(connection) == 200
        connection.sendall(b"GET /health HT")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_headers_behind_a_body_are_left_out_and_bounded(small: Any) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n"
    assert asked(small[1], chunked + b"Upgrade: x\r\n\r\n") == {"body": "good", "upgrade": None}
    with connect(small[1]) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(chunked + b"a: ")
        for _ in range(100):
            connection.sendall(b"x" * 10_000)
            time.sleep(0.005)
        raise AssertionError("a megabyte was taken")


def test_a_connection_beyond_the_limit_takes_the_place_of_the_one_that_is_idle_for_longest(small: Any) -> None:
    server, port = small
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(4)]
        connections[0].settimeout(0.3)
        for connection in (connections[1], connections[0], connections[2], connections[3]):
            assert ask(connection) == 200
        fifth = stack.enter_context(connect(port))
        assert ask(fifth, b"/else") == 404  # as any other
        assert connections[1].recv(10) == b""
        assert len(server.server_state.connections) == 4
        for connection in (connections[0], connections[2], connections[3], fifth):
            assert ask(connection) == 200


def test_where_all_connections_have_requests_health_checks_alone_are_answered(small: Any) -> None:
    server, port = small
    half = HEAD + b"Content-Length: 10\r\n\r\nhalf"
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(port)) for _ in range(4)]
        for connection in busy:
            connection.sendall(half)
        eventually(lambda: len(server.server_state.tasks) == 4)
        for _ in range(3):
            with connect(port) as more:
                assert ask(more) == 200
            with connect(port) as more:
                more.sendall(half)
                answer = read_all(more)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"the server has all the connections that it takes" in answer
        eventually(lambda: len(server.server_state.connections) == 4)
        for connection in busy:
            connection.sendall(b" body.")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_idle_connections_end_after_their_time_and_nothing_is_left(small: Any) -> None:
    server, port = small
    with contextlib.ExitStack() as stack:
        fresh = stack.enter_context(connect(port))
        asked_once = stack.enter_context(connect(port))
        assert ask(asked_once) == 200
        started = time.monotonic()
        assert read_all(fresh) == read_all(asked_once) == b""
        assert 1 < time.monotonic() - started < 5
    eventually(lambda: not server.server_state.connections)
    assert not server.config.http.idle  # type: ignore[union-attr]


def test_a_client_that_does_not_read_is_cut_off(small: Any) -> None:
    server, port = small
    with connect(port) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: len(server.server_state.tasks) == 1)
        started = time.monotonic()
        eventually(lambda: not server.server_state.tasks)
        assert 0.3 < time.monotonic() - started < 5
    eventually(lambda: not server.server_state.connections)


def test_a_response_before_the_client_was_told_to_go_on_ends_the_connection(port: int) -> None:
    head = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(head % b"refuse")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 401 ") and b"\r\nconnection: close\r\n" in answer
    with connect(port) as connection:
        connection.sendall(head % b"echo")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"well")
        assert b"connection: close" not in read_answer(connection)
        assert ask(connection) == 200, "the connection is kept"


def test_the_rest_of_a_body_that_was_answered_already_has_its_time_and_no_response(small: Any) -> None:
    _, port = small
    head = b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(head)
        assert read_answer(connection).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"01234")
        started = time.monotonic()
        assert read_all(connection) == b""
        assert LIMITS.header_timeout * 0.9 < time.monotonic() - started < 5
    with connect(port) as connection:
        connection.sendall(head)
        assert read_answer(connection).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"01234")
        time.sleep(0.1)
        connection.sendall(b"56789")
        time.sleep(2 * LIMITS.header_timeout)
        assert ask(connection) == 200, "the time ends with the body"

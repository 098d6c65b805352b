import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from serve.http.server_protocol import NoUpgradeProtocol

BODY = b'{"text": "\\r\\nUpgrade: x"}'
RAW = b"\r\nUpgrade: in the body\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a server that answers with the length and the start of the body, and the headers that it has seen."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, object]:
        return {"body": (await request.body()).decode(), "upgrade": request.headers.get("upgrade")}

    config = uvicorn.Config(app, port=0, log_level="error", http=NoUpgradeProtocol, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


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

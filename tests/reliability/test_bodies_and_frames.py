"""A server stands any body of any route, any message and any frame: no 5xx, no hang, no growth, no traceback."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.grpc.server import SERVICE
from serve.grpc.service import METHODS
from tests.reliability.both_engines import counted, grpc_address_of, serve_both
from tests.reliability.conftest import Server
from tests.reliability.every_request import JSON, REQUESTS, STREAMED, Asked, infer_request
from tests.reliability.fuzzing import any_of, as_json, damaged, json_values, objects
from tests.serve.conftest import Reference

SHORT, LONG = 8, 400
"""Bodies of each route, messages of each method, and a tenth of the conversations in frames."""
MOST_SECONDS = 5.0
MOST_GROWTH = 0.03
"""Share by which memory may grow after the first tenths, in which caches fill."""
WARM = 3
"""So many tenths."""
CONTEXT = 64
"""Tokens of the writers, so that a body that asks for as many as there are is soon answered."""
FORMS = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=[pytest.mark.soak])]
SERVER_FAULTS = {"UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "UNAVAILABLE", "DATA_LOSS", "ABORTED"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Iterator[Server]:
    with serve_both(tmp_path_factory.mktemp("any"), reference, context=CONTEXT) as server:
        yield server


def try_all(strategy: st.SearchStrategy[Any], attempt: Callable[[Any], None], examples: int) -> None:
    """Try examples; those of the short form are always the same."""
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples == SHORT,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(attempt))()


def parts(examples: int) -> list[int]:
    """Return the numbers of examples in each round over all routes; a round of the long form is a tenth of it."""
    return [examples] if examples == SHORT else [examples // 10] * 10


def bodies_by_path() -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = {}
    for asked in (*REQUESTS.values(), *STREAMED.values()):
        if isinstance(asked.body, dict) and asked.status in (200, 422, 404):
            found.setdefault(asked.path, []).append(asked)
    loads = {
        "/v1/unload_lora_adapter": {"lora_name": "intent"},
        "/v2/repository/models/intent/load": {"parameters": {}},
    }
    return {**found, **{path: [Asked(path, body)] for path, body in loads.items()}}


BODIES = bodies_by_path()


class Growth:
    """Memory of a server during some tries."""

    def __init__(self, server: Server, tries: int) -> None:
        self.server, self.tries, self.done = server, tries, 0
        self.memory: list[int] = []
        """At the end of each tenth, in kB."""

    def tried(self) -> None:
        self.done += 1
        if self.done % (self.tries // 10) == 0:
            self.memory.append(counted(self.server)["memory"])

    @property
    def share(self) -> float:
        return self.memory[-1] / self.memory[WARM - 1] - 1

    def __str__(self) -> str:
        megabytes = ", ".join(f"{one / 1e3:.1f}" for one in self.memory)
        return f"memory {self.share:+.1%} after {WARM} tenths (MB at the end of each: {megabytes})"


@pytest.mark.parametrize("examples", FORMS)
def test_any_body_of_any_route(examples: int, server: Server, figure: Callable[[str], None]) -> None:
    statuses: dict[int, int] = {}
    growth = Growth(server, examples * len(BODIES))
    slowest = 0.0
    with httpx.Client(base_url=server.address, timeout=30, headers=JSON) as client:

        def attempt(asked: tuple[str, bytes]) -> None:
            nonlocal slowest
            path, body = asked
            started = time.monotonic()
            response = client.post(path, content=body)
            slowest = max(slowest, time.monotonic() - started)
            assert response.status_code < 500, response.text
            assert slowest < MOST_SECONDS
            if response.headers["content-type"] == JSON["content-type"]:
                response.json()
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            growth.tried()

        for part in parts(examples):
            for path, known in BODIES.items():
                wholes = [asked.body for asked in known]
                changed, broken = objects(wholes).map(as_json), damaged([as_json(one) for one in wholes])
                bodies = any_of(changed, changed, broken, json_values(sorted(wholes[0])).map(as_json))
                try_all(st.tuples(st.just(path), bodies), attempt, part)
    figure(
        f"{growth.done} bodies of {len(BODIES)} routes: {dict(sorted(statuses.items()))}, the slowest after "
        f"{slowest:.2f} s; {growth}"
    )
    assert growth.share < MOST_GROWTH


PARTS = [b"\x0a\xff\xff\xff\xff\x0f", b"\x08", b"\xff" * 11, b"\x0b" * 200, b"\x12\x02\xff\xfe", b"\x2a\x00"]
"""Fields of the wire format that end too early, have no end, nest, are no UTF-8, or are empty."""
MESSAGES = [
    infer_request(model, name, "good", **parameters).SerializeToString()
    for model, name, parameters in (
        ("tone", "text", {}),
        ("north", "text_input", {"max_tokens": 3}),
        ("", "", {"a": 1}),
    )
]


@pytest.mark.parametrize("examples", FORMS)
def test_any_message_over_grpc(examples: int, server: Server, figure: Callable[[str], None]) -> None:
    codes: dict[str, int] = {}
    growth = Growth(server, examples * len(METHODS))
    with grpc.insecure_channel(grpc_address_of(server)) as channel:

        def attempt(asked: tuple[str, bytes]) -> None:
            name, message = asked
            code = "OK"
            try:
                channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=MOST_SECONDS)
            except grpc.RpcError as error:
                code = error.code().name
                assert code not in SERVER_FAULTS, error
            codes[code] = codes.get(code, 0) + 1
            growth.tried()

        messages = any_of(damaged(MESSAGES, PARTS), st.lists(st.sampled_from(PARTS), max_size=3).map(b"".join))
        for part in parts(examples):
            for name in METHODS:
                try_all(st.tuples(st.just(name), messages), attempt, part)
    figure(f"{growth.done} messages of {len(METHODS)} methods: {codes}; {growth}")
    assert growth.share < MOST_GROWTH


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, DATA, SETTINGS = 1, 0, 4
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """Return a frame of HTTP/2, whose length may be a wrong one."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK has it, without an index; both are shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


INFER = f"/{SERVICE}/ModelInfer".encode()


def conversation(
    message: bytes, *, path: bytes = INFER, more: bytes = b"x", compressed: int = 0, length: int | None = None
) -> bytes:
    """Return a call byte by byte."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b"te": b"trailers", b"x-request-id": more}
    fields |= {b":authority": b"x", b"content-type": b"application/grpc"}
    head = b"".join(header(name, value) for name, value in fields.items())
    data = struct.pack(">BI", compressed, len(message) if length is None else length) + message
    called = frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, data)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + called


def conversations() -> st.SearchStrategy[bytes]:
    frames = st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from([0, 1, 2, 3, 2**31 - 1, 2**32 - 1]),
        st.binary(max_size=24),
        st.none() | st.sampled_from([0, 1, 16_385, 2**24 - 1]),
    )
    wholes = [conversation(message) for message in MESSAGES] + [
        conversation(MESSAGES[0], compressed=1),
        conversation(MESSAGES[0], length=2**32 - 1),
        conversation(b""),
        conversation(MESSAGES[0], path=b"/\xff"),
        conversation(MESSAGES[0], more=b"\xff"),
    ]
    begun = PREFACE + frame(SETTINGS, 0, 0, b"")
    return any_of(
        damaged(wholes),
        st.lists(frames, max_size=6).map(lambda found: begun + b"".join(found)),
        st.sampled_from(wholes),
    )


@pytest.mark.parametrize("examples", FORMS)
def test_any_frame(examples: int, server: Server, figure: Callable[[str], None]) -> None:
    """Others are answered beside it, and no connection stays."""
    host, _, port = grpc_address_of(server).rpartition(":")
    growth, before, answered = Growth(server, examples * 10), counted(server), 0
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        good = channel.unary_unary(f"/{SERVICE}/ServerMetadata")  # models may have been unloaded by now
        assert good(b"", timeout=MOST_SECONDS)

        def attempt(content: bytes) -> None:
            nonlocal answered
            with socket.create_connection((host, int(port)), timeout=0.2) as connection:
                try:
                    connection.sendall(content)
                    connection.shutdown(socket.SHUT_WR)
                    while part := connection.recv(65_536):
                        answered += SERVICE.encode() in part or b"tone" in part
                except OSError:
                    pass  # it waits for more, or has ended the connection
            growth.tried()
            if growth.done % 10 == 0:
                assert good(b"", timeout=MOST_SECONDS)

        try_all(conversations(), attempt, examples * 10)
    end = time.monotonic() + 20
    while (after := counted(server))["sockets"] > before["sockets"] + 1 or after["files"] > before["files"] + 2:
        assert time.monotonic() < end, f"{before} before, {after} after"
        time.sleep(0.1)
    figure(
        f"{growth.done} conversations in frames, of which {answered} are answered; {before['sockets']} sockets before, "
        f"{after['sockets']} after; {growth}"
    )
    assert growth.share < MOST_GROWTH

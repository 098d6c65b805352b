"""Clients that leave, do not read, send slowly, half or nothing: others are answered, and what was held comes back."""

import asyncio
import contextlib
import json
import resource
import signal
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from serve.connection_limits import RESERVED
from tests.reliability.conftest import Server, serve
from tests.reliability.worker_load import wait_for_workers

BODY = json.dumps({"inputs": "good", "adapter": "tone"}).encode()
STREAM = {"model": "north", "prompt": "a", "max_tokens": 900, "ignore_eos": True, "stream": True}
SECONDS = 2
"""Time limits of the server for headers, bodies and reading."""
FLAGS = [
    *("--header-timeout-secs", SECONDS, "--body-timeout-secs", SECONDS, "--write-timeout-secs", SECONDS),
    *("--keep-alive-secs", SECONDS, "--no-cache"),
]
MOST_P95_SECONDS = 5.0
"""Far more than the p95 that is printed; the machines of tests are shared."""
FILES_LEFT = 3
"""Files that a server may have opened for good meanwhile, such as those of its threads."""


def request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def idle(connection: socket.socket) -> None:
    """Send nothing."""


def half_head(connection: socket.socket) -> None:
    connection.sendall(request("/predict", BODY)[:40])


def half_body(connection: socket.socket) -> None:
    connection.sendall(request("/predict", BODY)[:-10])


def not_reading(connection: socket.socket) -> None:
    """Ask for a long stream and for much else, and read none of it."""
    connection.sendall(request("/v1/completions", json.dumps(STREAM).encode()))


def leaving(connection: socket.socket) -> None:
    """Ask for a long stream and reset the connection."""
    connection.sendall(request("/v1/completions", json.dumps(STREAM).encode()))
    time.sleep(0.01)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


CLIENTS: dict[str, Callable[[socket.socket], None]] = {
    "idle": idle,
    "half a head": half_head,
    "half a body": half_body,
    "not reading": not_reading,
    "leaving": leaving,
}


@dataclass(frozen=True)
class Size:
    """Numbers of clients, and the connections that the server takes."""

    clients: dict[str, int]
    slow: int
    """Clients that send a byte every fifth of a second."""
    max_connections: int


SHORT = Size(
    clients={"idle": 300, "half a head": 50, "half a body": 50, "not reading": 16, "leaving": 16},
    slow=20,
    max_connections=200,
)
LONG = Size(
    clients={"idle": 2000, "half a head": 500, "half a body": 400, "not reading": 64, "leaving": 64},
    slow=100,
    max_connections=1000,
)
SIZES = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.soak)]


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let the clients have as many sockets as the system grants."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def files_of(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def resident(server: Server) -> int:
    """Return the resident memory of a server in MB."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1_000_000


def gauge(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith(name)]
    assert values
    return sum(values)


def latencies(server: Server, seconds: float) -> list[float]:
    """Ask over and over, each time on a connection of its own, and return the seconds of each answer."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        with connect(server) as connection:
            connection.sendall(request("/predict", BODY))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        found.append(time.monotonic() - started)
        with connect(server) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.01)
    return found


def p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def connect(server: Server) -> socket.socket:
    address = httpx.URL(server.address)
    return socket.create_connection((address.host, address.port or 0), timeout=10)


def send_slowly(connections: list[socket.socket], stop: threading.Event) -> None:
    """Send a byte on each connection at a time."""
    for byte in request("/predict", BODY):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(bytes([byte]))
        if stop.wait(0.2):
            return


@pytest.mark.parametrize("size", SIZES)
def test_others_are_answered_beside_clients_that_hold_on_and_all_comes_back(
    size: Size, classifier_folder: Path, generator_folder: Path, figure: Callable[[str], None]
) -> None:
    flags = [*FLAGS, "--max-connections", size.max_connections]
    with serve(classifier_folder, generator_folder, *flags) as server, contextlib.ExitStack() as stack:
        eventually(lambda: httpx.get(f"{server.address}/health/ready").status_code == 200)
        latencies(server, 1)
        quiet, files, memory = latencies(server, 2), files_of(server), resident(server)
        slow, stop = [stack.enter_context(connect(server)) for _ in range(size.slow)], threading.Event()
        dribble = threading.Thread(target=send_slowly, args=(slow, stop))
        dribble.start()
        beside = {"a byte at a time": latencies(server, SECONDS)}
        most_files = 0
        for name, count in size.clients.items():
            for _ in range(count):
                connection = stack.enter_context(connect(server))
                with contextlib.suppress(OSError):  # it had to make room
                    CLIENTS[name](connection)
            most_files = max(most_files, files_of(server))
            beside[name] = latencies(server, SECONDS)
        stop.set()
        dribble.join()
        eventually(lambda: gauge(server, "adamix_live_rows") == gauge(server, "adamix_queue_rows") == 0)
        eventually(lambda: files_of(server) <= files + FILES_LEFT)
        assert most_files <= files + size.max_connections + RESERVED + FILES_LEFT
        figure(
            f"{sum(size.clients.values()) + size.slow} clients, {size.max_connections} connections at most: "
            f"others wait {statistics.median(quiet) * 1000:.1f} ms when quiet, p95 {p95(quiet) * 1000:.1f}; "
            "times that beside "
            + ", ".join(
                f"{name} {statistics.median(seconds) / statistics.median(quiet):.2f}, {p95(seconds) / p95(quiet):.2f}"
                for name, seconds in beside.items()
            )
            + f"; memory {memory} MB before, {resident(server)} after; files {files}, {most_files} at most, "
            f"{files_of(server)} after"
        )
        assert max(map(p95, beside.values())) < MOST_P95_SECONDS
    assert server.process.returncode == 0
    assert not [line for line in server.log if "Traceback" in line]


@pytest.mark.parametrize("count", [pytest.param(8, id="short"), pytest.param(64, id="long", marks=pytest.mark.soak)])
def test_sigterm_under_load_finishes_every_stream_that_has_begun(
    count: int, generator_folder: Path, figure: Callable[[str], None]
) -> None:
    """A request that comes later is refused, by 503 or by a closed port."""
    statuses: list[int | str] = []

    async def stream(client: httpx.AsyncClient, begun: asyncio.Event) -> list[str]:
        async with client.stream("POST", "/v1/completions", json=STREAM) as response:
            assert response.status_code == 200
            lines = []
            async for line in response.aiter_lines():
                begun.set()
                lines.append(line)
        return [line.removeprefix("data: ") for line in lines if line]

    async def keep_asking(client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        body = {**STREAM, "max_tokens": 4, "stream": False}
        while not stop.is_set():
            try:
                statuses.append((await client.post("/v1/completions", json=body)).status_code)
            except httpx.TransportError as error:
                statuses.append(type(error).__name__)
                await asyncio.sleep(0.05)

    async def run(server: Server) -> tuple[list[list[str]], float]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=server.address, timeout=60, limits=limits) as client:
            begun, stop = [asyncio.Event() for _ in range(count)], asyncio.Event()
            streams = [asyncio.create_task(stream(client, one)) for one in begun]
            asking = [asyncio.create_task(keep_asking(client, stop)) for _ in range(4)]
            await asyncio.gather(*(one.wait() for one in begun[:4]))
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            events = await asyncio.gather(*streams)
            seconds = time.monotonic() - told
            stop.set()
            await asyncio.gather(*asking)
        return events, seconds

    with serve(generator_folder, "--no-cache", "--exit-timeout-secs", 60) as server:
        eventually(lambda: httpx.get(f"{server.address}/health/ready").status_code == 200)
        streams, seconds = asyncio.run(run(server))
        assert server.process.wait(60) == 0
    for events in streams:
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    answered = [status for status in statuses if isinstance(status, int)]
    assert set(answered) <= {200, 503}
    assert any("every accepted request is answered" in line for line in server.log)
    assert not [line for line in server.log if "Traceback" in line]
    figure(
        f"{count} streams finished within {seconds:.1f} s of SIGTERM; beside them {answered.count(200)} answers, "
        f"{answered.count(503)} times 503, {len(statuses) - len(answered)} times a closed port"
    )


def answer(connection: socket.socket) -> str:
    """Return an answer whose length is told, in lower case."""
    connection.settimeout(10)
    found = b""
    while b"\r\n\r\n" not in found and (part := connection.recv(65_536)):
        found += part
    head, _, body = found.decode().lower().partition("\r\n\r\n")
    while len(body) < int(head.partition("content-length: ")[2].split()[0]):
        body += connection.recv(65_536).decode().lower()
    return f"{head}\r\n\r\n{body}"


def is_closed(server: Server) -> bool:
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_new_requests_get_503_while_those_before_sigterm_are_finished(
    workers: int, classifier_folder: Path, generator_folder: Path, figure: Callable[[str], None]
) -> None:
    """On connections that are open; during --drain-delay they are still answered, which ends their connections."""
    texts: list[str] = []

    def stream() -> None:
        texts.append(httpx.post(f"{server.address}/v1/completions", json=STREAM, timeout=60).text)

    flags = ("--no-cache", "--drain-delay", 1, "--exit-timeout-secs", 60, "--workers", workers)
    with serve(classifier_folder, generator_folder, *flags) as server, contextlib.ExitStack() as stack:
        if workers > 1:
            wait_for_workers(server.address, workers, supervisor=server.process.pid)
        eventually(lambda: httpx.get(f"{server.address}/health/ready").status_code == 200)
        streams = [threading.Thread(target=stream) for _ in range(4)]
        for thread in streams:
            thread.start()
        open_ones = [stack.enter_context(connect(server)) for _ in range(6)]
        half = stack.enter_context(connect(server))
        for connection in open_ones:
            connection.sendall(request("/predict", BODY))
            assert "connection: close" not in answer(connection)
        half_body(half)
        if workers == 1:  # two workers may have finished two streams each by now
            eventually(lambda: gauge(server, "adamix_live_rows") == 4)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: sum("unready" in line for line in server.log) == workers)
        open_ones[0].sendall(request("/predict", BODY))
        during = answer(open_ones[0])
        eventually(lambda: is_closed(server))
        refused = []
        for connection in open_ones[1:]:
            connection.sendall(request("/predict", BODY))
            refused.append(answer(connection))
        half.sendall(BODY[-10:])
        accepted = answer(half)
        for thread in streams:
            thread.join(60)
        assert server.process.wait(60) == 0
    assert during.startswith("http/1.1 200 ") and "connection: close" in during
    assert accepted.startswith("http/1.1 200 "), "its head had arrived before"
    for text in refused:
        assert text.startswith("http/1.1 503 "), text
        assert "retry-after: 1" in text and "connection: close" in text
    assert len(texts) == 4 and all(text.rstrip().endswith("[DONE]") for text in texts)
    figure(
        f"{workers} processes, {len(refused)} requests after --drain-delay on open connections: 503 each; "
        f"{len(texts)} streams finished"
    )


@pytest.mark.parametrize("path", ["/predict", "/v1/completions", "/v2/models/tone/infer"])
def test_json_without_end_of_depth_is_refused_at_once(
    path: str, classifier_folder: Path, generator_folder: Path
) -> None:
    with serve(classifier_folder, generator_folder, "--no-cache") as server:
        for body in (
            b"[" * 1_900_000,
            b'{"inputs":' * 190_000,
            b'{"inputs": ' + b"[" * 900_000 + b"]" * 900_000 + b"}",
        ):
            started = time.monotonic()
            answer = httpx.post(f"{server.address}{path}", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 404, 422)
            assert len(answer.content) < 3000
            assert time.monotonic() - started < 2
        assert server.ask().status_code == 200


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_body_that_is_announced_too_large_is_413_before_it_is_sent(
    expect: str, classifier_folder: Path, generator_folder: Path
) -> None:
    with serve(classifier_folder, generator_folder, "--no-cache", "--payload-limit", 1000) as server:
        for path in ("/predict", "/classify", "/v1/completions", "/v2/models/tone/infer", "/invocations"):
            with connect(server) as connection:
                started = time.monotonic()
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000000\r\n{expect}\r\n"
                connection.sendall(head.encode())
                found = answer(connection)
                assert time.monotonic() - started < 2
                assert found.startswith("http/1.1 413 ") and "connection: close" in found
                assert "the request has more than 1000 bytes: send less at once" in found
        assert server.ask().status_code == 200

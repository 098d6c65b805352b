import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread

import pytest

from benchmarks.support.load_client import closed_loop


def test_clients_send_every_body_once_and_an_error_ends_them() -> None:
    seen: list[object] = []

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append(body)
            self.send_response(500 if body == "bad" else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{listener.server_address[1]}/predict"
        found = asyncio.run(closed_loop(url, 4, list(range(20))))
        assert sorted(seen) == list(range(20))
        assert len(found["latencies"]) == 20
        assert 0 < min(found["latencies"]) <= found["seconds"]
        with pytest.raises(RuntimeError, match="500"):
            asyncio.run(closed_loop(url, 1, ["bad"]))
        listener.shutdown()


class Keeps(BaseHTTPRequestHandler):
    """Answers over connections that stay open; no answer goes out before `together` requests are there."""

    protocol_version = "HTTP/1.1"
    together: Barrier
    connections: list[object]
    bodies: list[object]

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.client_address)

    def do_POST(self) -> None:
        assert (self.path, self.headers["content-type"]) == ("/predict", "application/json")
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.together.wait(10)
        answer = b'{"a": "long answer"}' * 10_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(clients: int) -> Iterator[tuple[str, type[Keeps]]]:
    """Yield the address of a server that takes so many requests at a time, and what has come to it."""

    class Handler(Keeps):
        together = Barrier(clients)

    Handler.connections, Handler.bodies = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/predict", Handler
        listener.shutdown()


def test_clients_wait_side_by_side_and_each_keeps_its_connection() -> None:
    with listening(clients=4) as (url, handler):
        found = asyncio.run(closed_loop(url, 4, list(range(12))))
        assert len(set(handler.connections)) == len(handler.connections) == 4
        assert sorted(handler.bodies, key=str) == sorted(range(12), key=str)
        assert len(found["latencies"]) == 12


def test_the_process_prints_its_figures_alone(tmp_path: Path) -> None:
    bodies = [{"inputs": f"größer {index}"} for index in range(6)]
    (tmp_path / "bodies.json").write_text(json.dumps(bodies))
    with listening(clients=2) as (url, handler):
        command = [sys.executable, "-m", "benchmarks.support.load_client", url, "2", str(tmp_path / "bodies.json")]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert sorted(handler.bodies, key=str) == bodies
    found = json.loads(result.stdout)
    assert found.keys() == {"seconds", "latencies"}
    assert len(found["latencies"]) == 6


def test_a_stream_is_read_to_its_end() -> None:
    class Streams(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in (b"data: a" * 40, b"data: [DONE]"):
                self.wfile.write(f"{len(piece):x}".encode() + b"\r\n" + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Streams) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        found = asyncio.run(closed_loop(f"http://127.0.0.1:{listener.server_address[1]}/predict", 2, list(range(6))))
        assert len(found["latencies"]) == 6
        listener.shutdown()

"""Servers that are processes: a small one of the standard library, which starts a process of its own."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support import processes
from benchmarks.support.errors import PeerError
from benchmarks.support.processes import Server, free_port, processor_seconds, serving

PROGRAM = """
import json, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

child = subprocess.Popen(["sleep", "600"])
seen = []

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200 if len(seen) > 2 else 503)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "seen": seen, "child": child.pid}).encode())

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@contextmanager
def small_server() -> Iterator[Server]:
    port = free_port()
    with serving([sys.executable, "-c", PROGRAM, str(port)], port, "ready?") as server:
        yield server


def ask(server: Server, body: Any) -> Any:
    with urllib.request.urlopen(server.url, json.dumps(body).encode()) as response:
        return json.load(response)


def state_of(pid: int) -> str:
    """The letter of a process's state; X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def become(pids: list[int], states: str) -> bool:
    """Wait until every process is in one of the states: signals take a moment to arrive."""
    for _ in range(1000):
        if all(state_of(pid) in states for pid in pids):
            return True
        time.sleep(0.01)
    return False


def test_a_server_is_there_once_it_answers_with_200_and_all_its_processes_end_with_the_block() -> None:
    with small_server() as server:
        found = ask(server, "a text")
        assert (found["path"], found["seen"]) == ("/predict", ["ready?"] * 3 + ["a text"])
        assert state_of(found["child"]) == "S"
    assert state_of(server.group) == "X"
    assert become([found["child"]], "XZ")


def test_a_server_sleeps_with_all_its_processes_and_goes_on() -> None:
    with small_server() as server:
        pids = [server.group, ask(server, "before")["child"]]
        server.pause()
        assert become(pids, "T")
        server.resume()
        assert ask(server, "after")["seen"][-1] == "after"
        assert become(pids, "SR")


def test_a_server_that_does_not_answer_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(processes, "STARTUP", 0.0)
    with (
        pytest.raises(PeerError, match=r"^sleep 600 … did not answer: no output$"),
        serving(["sleep", "600"], free_port(), {}),
    ):
        pass
    assert [process.returncode for process in started] == [-9]


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as taken, socket.socket() as listener:
        taken.bind(("127.0.0.1", 0))
        port = free_port()
        listener.bind(("127.0.0.1", port))
        assert listener.getsockname()[1] == port != taken.getsockname()[1]


def test_the_processor_time_of_a_process_has_that_of_its_children() -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    child = f"subprocess.run([sys.executable, '-c', {spin!r}])"
    code = f"import subprocess, sys, time; {child}; print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_seconds(process.pid) >= 0.3
    finally:
        process.kill()
        process.wait()

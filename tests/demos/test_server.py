"""Starting a server and waiting for it, with programs in place of Python that answer as it might."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from demos import server
from demos.server import ServerError, free_port, running_server

PROGRAM = f"""#!{sys.executable}
import signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

asked = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(503 if len(asked) == 1 else 200)
        self.end_headers()
        self.wfile.write(" ".join([*asked, *sys.argv[1:]]).encode())

def end(*_):
    print("ended by SIGTERM", flush=True)
    sys.exit()

signal.signal(signal.SIGTERM, end)
HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a script run wherever Python is started."""

    def put(script: str) -> None:
        file = tmp_path / "python"
        file.write_text(script)
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    return put


def test_a_server_is_there_once_it_is_healthy_and_sigterm_ends_it(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(PROGRAM)
    port, log = free_port(), tmp_path / "log"
    with running_server(Path("a bundle"), port=port, log=log) as address:
        assert address == f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/x").text == f"/health /health /x -m serve.cli a bundle --port {port}"
    assert "ended by SIGTERM" in log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_a_server_that_ends_says_why_in_its_last_line(program: Callable[[str], None], tmp_path: Path) -> None:
    program("#!/bin/sh\necho starting\necho there is no bundle >&2\nexit 3\n")
    with (
        pytest.raises(ServerError, match=r"^adamix-serve ended with 3: there is no bundle$"),
        running_server(tmp_path, log=tmp_path / "log"),
    ):
        pass


def test_a_server_that_does_not_answer_in_time_is_ended(
    program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    program("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(server, "START_SECONDS", 0.0)
    with pytest.raises(ServerError, match=r"^adamix-serve did not answer within 0 s$"), running_server(tmp_path):
        pass
    assert [process.returncode for process in started] == [-signal.SIGTERM]

"""Servers as processes of their own, with all that they start: awake for their turn, asleep for that of others."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import last_line
from benchmarks.support.errors import PeerError

STARTUP = 60.0
"""Seconds that a server may take to respond."""


@dataclass(frozen=True)
class Server:
    """A server that responds."""

    url: str
    group: int
    """Process group of the server."""
    seconds: float
    """Seconds from the command to the first response."""

    def pause(self) -> None:
        """Stop its processes: some poll while they have nothing to do, on cores that another one is measured on."""
        os.killpg(self.group, signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        os.killpg(self.group, signal.SIGCONT)


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    port: int,
    body: Any,
    *,
    path: str = "/predict",
    startup: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends, and whatever it has started with it; it has answered `body` once.

    It has `startup` seconds for that, None is `STARTUP`. Its environment is that of this process if None is given.
    """
    url = f"http://127.0.0.1:{port}{path}"
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            while not _answers(url, body):
                if process.poll() is not None or time.perf_counter() - start > (
                    STARTUP if startup is None else startup
                ):
                    log.seek(0)
                    raise PeerError(f"{' '.join(command[:4])} … did not answer: {last_line(log.read())}")
                time.sleep(0.005)
            yield Server(url, process.pid, time.perf_counter() - start)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and all that descend from it have taken, those that have ended too."""
    found: dict[int, tuple[int, float]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            found[int(file.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family = {pid}
    while new := {one for one, (parent, _) in found.items() if parent in family} - family:
        family |= new
    return sum(seconds for one, (_, seconds) in found.items() if one in family)


def memory_of(pid: int) -> tuple[int, int]:
    """Return the most bytes of memory that a process has held, and those that it holds; mapped files count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = {name: value for name, _, value in (line.partition(":") for line in lines)}
    peak, held = (1024 * int(facts[name].split()[0]) for name in ("VmHWM", "VmRSS"))
    return peak, held


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _answers(url: str, body: Any) -> bool:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False

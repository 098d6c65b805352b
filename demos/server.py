"""Start adamix-serve as a child process and wait until it responds."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

START_SECONDS = 120.0


class ServerError(Exception):
    """The server did not start."""


@contextmanager
def running_server(
    *bundles: Path, port: int = 0, log: Path | None = None, options: Sequence[str] = ()
) -> Iterator[str]:
    """Serve bundles while the context lasts and yield the address; SIGTERM ends it."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "serve.cli", *map(str, bundles), "--port", str(port), *options]
    with (log or Path("/dev/null")).open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(process, address, log)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path | None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            reason = log.read_text().strip().splitlines()[-1:] if log else []
            raise ServerError(f"adamix-serve ended with {process.returncode}: {' '.join(reason)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").status_code == 200:
                return
        time.sleep(0.1)
    raise ServerError(f"adamix-serve did not answer within {START_SECONDS:g} s")

"""Questions between the workers of a server, over Unix sockets in their private folder: a line of JSON either way."""

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serve.errors import ServeError

logger = logging.getLogger(__name__)
Answer = Callable[[Any], Any]
"""Takes and returns values of JSON; called in a thread of its own."""


class Unreachable(Exception):
    """A worker is gone, or did not answer in time."""


class Refused(ServeError):
    """A worker refuses what it was asked for."""


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """A worker's ear. It listens once it is made; it answers, in threads, once it is started."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: Path) -> None:
        """Listen on a Unix socket, in the place of one that a worker before has left."""
        address.unlink(missing_ok=True)
        super().__init__(str(address), _Handler)
        self.answers: Mapping[str, Answer] = {}

    def start(self, answers: Mapping[str, Answer]) -> None:
        """Answer questions, each by the function that has its name."""
        self.answers = answers
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, ControlServer)
        with contextlib.suppress(OSError, ValueError):
            asked = json.loads(self.rfile.readline())
            try:
                answer = {"answer": self.server.answers[asked["question"]](asked["value"])}
            except ServeError as error:
                answer = {"refused": str(error)}
            except Exception as error:
                logger.exception("a sibling's question could not be answered")
                answer = {"refused": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def ask(address: Path, question: str, value: Any = None, *, timeout: float) -> Any:
    """Ask a worker, and return its answer.

    Raises:
        Unreachable: It is gone, or did not answer within `timeout` seconds.
        Refused: It refuses, with its reason.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(address))
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps({"question": question, "value": value}).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        raise Unreachable(str(error)) from error
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer["answer"]

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.errors import InputError
from serve.workers.control import ControlServer, Refused, Unreachable, ask


def refuse(value: Any) -> None:
    raise InputError(f"no {value}")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Path]:
    server = ControlServer(tmp_path / "0.sock")
    server.start({"double": lambda value: 2 * value, "refuse": refuse, "fail": lambda value: 1 / value})
    yield tmp_path / "0.sock"
    server.shutdown()
    server.server_close()


def test_an_answer(address: Path) -> None:
    assert ask(address, "double", [1, "é"], timeout=5) == [1, "é", 1, "é"]


def test_a_refusal_has_its_reason(address: Path) -> None:
    with pytest.raises(Refused, match="no thanks"):
        ask(address, "refuse", "thanks", timeout=5)


def test_a_failure_is_a_refusal(address: Path) -> None:
    with pytest.raises(Refused, match="ZeroDivisionError"):
        ask(address, "fail", 0, timeout=5)


def test_a_question_waits_for_the_start(tmp_path: Path) -> None:
    """Siblings may ask as soon as it listens; it answers when it is started."""
    server = ControlServer(tmp_path / "0.sock")
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(tmp_path / "0.sock"))
        asking.sendall(b'{"question": "double", "value": 2}\n')
        server.start({"double": lambda value: 2 * value})
        assert asking.recv(100) == b'{"answer": 4}\n'
    server.shutdown()
    server.server_close()


def test_a_worker_that_is_gone_or_silent_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        ask(tmp_path / "1.sock", "double", 1, timeout=5)
    server = ControlServer(tmp_path / "1.sock")  # and never started
    with pytest.raises(Unreachable):
        ask(tmp_path / "1.sock", "double", 1, timeout=0.1)
    server.server_close()
    with pytest.raises(Unreachable):
        ask(tmp_path / "1.sock", "double", 1, timeout=5)
    ControlServer(tmp_path / "1.sock").server_close()  # takes the place of what was left

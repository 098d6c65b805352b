import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("ray", reason="the extra ray is not installed")

from serve.cluster.connection import ANSWER_SECONDS, connect
from serve.errors import ConfigurationError


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_where_nothing_listens_is_told_at_once(closed_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(
        ConfigurationError, match=rf"^there is no Ray cluster at 127\.0\.0\.1:{closed_port} \(.*refused"
    ):
        connect(f"127.0.0.1:{closed_port}")
    assert time.monotonic() - began < ANSWER_SECONDS


def test_the_variable_goes_before_auto_and_is_checked_as_well(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    with pytest.raises(ConfigurationError, match=r"^there is no Ray cluster at auto .*refused"):
        connect("auto")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "''"),
        ("nonsense", "nonsense"),
        ("what://head", "an address is auto, local or HOST:PORT"),
        ("ray://head:10001", "Ray's client, ray://, is not supported"),
        ("127.0.0.1:port", "an address is auto, local or HOST:PORT"),
        ("127.0.0.1:99999", "99999"),
    ],
)
def test_what_is_no_address_is_one_line(address: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError) as told:
        connect(address)
    assert reason in str(told.value) and "\n" not in str(told.value)


def test_another_server_is_told_from_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.cluster.connection.ANSWER_SECONDS", 1.0)
    with HTTPServer(("", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(ConfigurationError, match="what listens there is no head of a Ray cluster"):
            connect(f"127.0.0.1:{other.server_port}")
        other.shutdown()

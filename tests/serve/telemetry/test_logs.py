"""Log lines, of a formatter and of a whole process under traffic."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.request_context import RequestContext, current_request
from serve.telemetry.logs import FIELDS, REQUEST, JsonFormatter, TextFormatter
from tests.fixtures.served_process import ServedProcess, served_process
from tests.serve.conftest import Reference, write_bundle

SECRET = "Schneeglöckchen"
"""A text that clients send, which no line may have."""


def record(message: str = "hello", **attributes: object) -> logging.LogRecord:
    made = logging.LogRecord("some.logger", logging.WARNING, "file", 1, message, None, None)
    made.created = 1_700_000_000.25
    vars(made).update(attributes)
    return made


def failed() -> logging.LogRecord:
    try:
        raise KeyError("cause")
    except KeyError:
        return record("it failed", exc_info=sys.exc_info())


def test_a_line_of_json_has_time_level_logger_and_message() -> None:
    assert json.loads(JsonFormatter().format(record())) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "WARNING",
        "logger": "some.logger",
        "message": "hello",
    }


def test_a_line_has_the_request_that_is_current_or_given_and_its_trace() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    token = current_request.set(RequestContext("mine", traceparent=f"00-{trace}-00f067aa0ba902b7-01"))
    try:
        line = json.loads(JsonFormatter().format(record()))
        assert (line["request_id"], line["trace_id"]) == ("mine", trace)
        other = json.loads(JsonFormatter().format(record(**{REQUEST: RequestContext("other")})))
        assert (other["request_id"], "trace_id" in other) == ("other", False)
        assert TextFormatter().format(record()).endswith(" WARNING hello [request mine]")
    finally:
        current_request.reset(token)


def test_an_exception_is_its_type_and_a_traceback_within_the_line() -> None:
    text = JsonFormatter().format(failed())
    assert "\n" not in text
    line = json.loads(text)
    assert line["exception"] == "KeyError"
    assert line["traceback"].startswith("Traceback")
    assert TextFormatter().format(failed()).count("\n") > 2


def test_a_message_of_several_lines_is_one_line() -> None:
    forged = "/a\n2026-01-01 CRITICAL forged\r\n\u2028"
    assert len(JsonFormatter().format(record(forged)).splitlines()) == 1
    assert TextFormatter().format(record(forged)).count("\n") == 0


def test_fields_are_keys_in_json_and_follow_the_message_in_text() -> None:
    fields = {FIELDS: {"status": 200, "route": "/predict"}}
    assert json.loads(JsonFormatter().format(record(**fields)))["status"] == 200
    assert TextFormatter().format(record(**fields)).endswith(" hello status=200 route=/predict")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    return write_bundle(tmp_path_factory.mktemp("logged") / "bundle", reference, ["tone", "intent"])


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ["--log-format", "json", "--access-log", "1", "--payload-limit", "5000"]
    with served_process(log, [bundle], *flags) as started:
        yield started


BAD: dict[str, tuple[str, Any, str | None, int]] = {
    "ok": ("/predict?q=" + SECRET, {"inputs": SECRET, "adapter": "tone"}, "/predict", 200),
    "no-json": ("/predict", SECRET, "/predict", 400),
    "unknown-field": ("/predict", {SECRET: SECRET}, "/predict", 422),
    "unknown-adapter": ("/predict", {"inputs": SECRET, "adapter": SECRET}, "/predict", 404),
    "wrong-type": ("/classify", {"input": {"text": SECRET}, "model": "tone"}, "/classify", 422),
    "no-route": (f"/{SECRET}/{SECRET}?{SECRET}", {}, None, 404),
    "no-model": (f"/v2/models/{SECRET}/infer", {"inputs": []}, "/v2/models/{name}/infer", 404),
    "too-large": ("/predict", {"inputs": SECRET * 1000, "adapter": "tone"}, "/predict", 413),
    "bytes": ("/predict", b"\xff\xfe\x00", "/predict", 400),
}


def test_every_line_under_bad_requests_is_json_with_its_id_and_without_texts(server: ServedProcess) -> None:
    for request_id, (path, body, route, status) in BAD.items():
        sent: dict[str, Any] = {"json": body} if isinstance(body, dict) else {"content": body}
        response = server.client.post(path, headers={"X-Request-Id": request_id}, **sent)
        assert response.status_code == status
        assert response.headers["X-Request-Id"] == request_id
        line = server.access_line(request_id)
        assert (line["method"], line.get("route"), line["status"]) == ("POST", route, status)
        assert line["bytes_out"] == len(response.content)
        assert (line.get("adapters"), "tokens_in" in line) == (("tone", True) if status == 200 else (None, False))
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(SECRET.encode() + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    lines = server.lines()
    for line in lines:
        assert line.keys() >= {"time", "level", "logger", "message"}
    assert any(line["logger"] == "uvicorn.error" for line in lines)  # of the request that is none
    assert SECRET not in server.log.read_text()
    assert json.dumps(SECRET)[1:-1] not in server.log.read_text()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_requests_has_a_line(share: float, bundle: Path, tmp_path: Path) -> None:
    with served_process(tmp_path / "log", [bundle], "--log-format", "json", "--access-log", str(share)) as server:
        for _ in range(200):
            assert server.client.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code == 200
    lines = [line for line in server.access_lines() if line["method"] == "POST"]
    assert len(lines) == 0 if share == 0 else 60 < len(lines) < 140
    assert len({line["request_id"] for line in lines}) == len(lines)


def test_the_reason_why_a_server_does_not_start_is_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve.cli", str(tmp_path / "nowhere"), "--port", "0", "--log-format", "json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    line = json.loads(found.stderr)
    assert line["level"] == "CRITICAL"
    assert "there is no bundle folder" in line["message"]


UNCAUGHT = """
import threading, warnings
from serve.telemetry.logs import configure_logging
configure_logging("json", 20)
warnings.warn("beware")
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
raise ValueError("the end")
"""


def test_warnings_and_exceptions_that_nobody_handles_are_json() -> None:
    found = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert found.returncode == 1
    warning, thread, end = (json.loads(line) for line in found.stderr.splitlines())
    assert "beware" in warning["message"]
    assert (thread["message"], thread["exception"]) == ("worker failed", "ZeroDivisionError")
    assert (end["message"], end["exception"]) == ("ValueError: the end", "ValueError")

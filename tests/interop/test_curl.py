"""curl's ways to send a request: an answer, or a clear 4xx."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")]
BODY = json.dumps({"inputs": "very good", "adapter": "tone"})
JSON = ("-H", "content-type: application/json")


def curl(address: str, *options: str) -> tuple[int, str]:
    """Status and body."""
    command = ["curl", "-s", "-m", "20", "-w", "\n%{http_code}", *options, address]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize(
    "options",
    [
        ("--http1.0",),
        ("-H", "transfer-encoding: chunked"),
        ("-H", "expect: 100-continue"),
        ("--http1.1", "-H", "connection: close"),
        ("--http2",),
        ("-H", "accept-encoding: gzip", "--compressed"),
    ],
    ids=["HTTP/1.0", "chunked", "100-continue", "close", "upgrade to HTTP/2", "compressed"],
)
def test_a_request_is_answered_however_it_is_sent(classifiers: str, options: tuple[str, ...]) -> None:
    status, body = curl(f"{classifiers}/predict", *options, *JSON, "-d", BODY)
    assert status == 200
    assert {one["label"] for one in json.loads(body)} == {"negative", "positive"}


def test_a_long_body_that_waits_for_its_100_is_refused(classifiers: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_text(json.dumps({"inputs": "good " * 2_000_000, "adapter": "tone"}))
    options = ("-H", "expect: 100-continue", *JSON, "--data-binary", f"@{tmp_path / 'body'}")
    status, body = curl(f"{classifiers}/predict", *options)
    assert (status, json.loads(body)["error_type"]) == (413, "payload_too_large")


@pytest.mark.parametrize("path", ["/predict/", "/predict//", "/v1/models/", "/v2/", "/health/"])
def test_a_slash_at_the_end_changes_nothing(classifiers: str, path: str) -> None:
    given = (*JSON, "-d", BODY) if "predict" in path else ()
    assert curl(classifiers + path, *given)[0] == 200


def test_what_is_not_there_or_not_meant_is_a_clear_4xx(classifiers: str) -> None:
    assert curl(f"{classifiers}/nowhere")[0] == 404
    assert curl(f"{classifiers}/predict")[0] == 405
    status, body = curl(f"{classifiers}/predict", *JSON, "-d", "inputs=good")
    assert (status, "not JSON" in json.loads(body)["error"]) == (400, True)
    assert curl(f"{classifiers}/predict", "-I", "-X", "HEAD")[0] == 405

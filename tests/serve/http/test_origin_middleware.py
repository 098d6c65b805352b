import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.adapter_loading import AdapterLoading
from serve.application import application
from serve.args import parse_args
from serve.http.app import make_app
from serve.http.origin_middleware import is_own_origin
from serve.readiness import Readiness
from tests.fixtures.toy_engine import ToyEngine

EVIL = {"Origin": "http://evil.example"}
BODY = json.dumps({"prompt": "a"})
SIMPLE: list[dict[str, Any]] = [
    {"content": BODY, "headers": {"Content-Type": "text/plain"}},
    {"content": BODY, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    {"content": BODY, "headers": {}},
    {"headers": {}},
]
"""Requests that browsers send to another origin without asking first."""
CHANGING = ["/v1/completions", "/v1/unload_lora_adapter", "/v2/repository/models/toy/unload", "/nowhere"]
WORDS = "pages of http://evil.example may not call this server: --cors-origin names the origins that may"


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("request_", SIMPLE)
def test_a_page_of_another_origin_is_refused(path: str, request_: dict[str, Any]) -> None:
    with TestClient(make_app(ToyEngine(), cors_origins=["https://page.example"])) as client:
        answer = client.post(path, **{**request_, "headers": {**request_["headers"], **EVIL}})
        counted = client.get("/metrics").text
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["message"] if isinstance(error, dict) else error) == WORDS
    assert "access-control-allow-origin" not in answer.headers
    assert 'adamix_requests_total{code="403",method="POST"} 1.0' in counted.splitlines()


@pytest.mark.parametrize("request_", SIMPLE[:3])
def test_a_client_without_an_origin_is_answered_whatever_its_content_type(request_: dict[str, Any]) -> None:
    with TestClient(make_app(ToyEngine(), on_loopback=True)) as client:
        assert client.post("/v1/completions", **request_).status_code == 200


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (["https://page.example"], "https://page.example", 200),
        (["https://page.example"], "https://page.example:8443", 403),
        (["*"], "http://evil.example", 200),
        (["*"], "null", 200),
        ([], "null", 403),
        ([], "http://testserver", 200),
        ([], "https://testserver", 200),
        ([], "http://testserver:81", 403),
    ],
)
def test_origins_that_are_named_or_the_servers_own_are_answered(origins: list[str], origin: str, status: int) -> None:
    with TestClient(make_app(ToyEngine(), cors_origins=origins)) as client:
        assert client.post("/v1/completions", content=BODY, headers={"Origin": origin}).status_code == status


def test_one_wrong_origin_among_several_is_refused() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        headers = [("Origin", "http://testserver"), ("Origin", "http://evil.example")]
        assert client.post("/v1/completions", content=BODY, headers=headers).status_code == 403


def test_pages_read_what_browsers_let_them() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        assert client.get("/health", headers=EVIL).status_code == 200
        assert client.head("/health", headers=EVIL).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "own", "own_on_loopback"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True, True),
        ("http://[::1]:8080", "[::1]:8080", True, True),
        ("http://localhost:8080", "localhost:8080", True, True),
        ("http://localhost", "localhost:80", True, True),
        ("https://nlp.example", "nlp.example", True, False),
        ("https://nlp.example", "NLP.example:443", True, False),
        ("http://evil.example:8080", "evil.example:8080", True, False),
        ("http://localhost.evil.example:8080", "localhost.evil.example:8080", True, False),
        ("http://localhost:3000", "localhost:8080", False, False),
        ("http://localhost:8080", "127.0.0.1:8080", False, False),
        ("http://localhost", "", False, False),
        ("null", "null", False, False),
        ("", "", False, False),
        ("ftp://localhost", "localhost", False, False),
        ("http://[", "[", False, False),
        ("http://localhost:port", "localhost:port", False, False),
    ],
)
def test_an_origin_is_own_by_host_and_port(origin: str, host: str, own: bool, own_on_loopback: bool) -> None:
    assert is_own_origin(origin, host) is own
    assert is_own_origin(origin, host, on_loopback=True) is own_on_loopback


@pytest.mark.parametrize(("flags", "status"), [([], 403), (["--host", "localhost"], 403), (["--host", "0.0.0.0"], 200)])
def test_a_server_on_loopback_has_no_other_name(flags: list[str], status: int) -> None:
    engine = ToyEngine()
    loading = AdapterLoading(engine=engine, root=None)
    app = application(engine, Readiness(engine), None, loading, parse_args(["bundle", *flags]))
    rebound = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    with TestClient(app) as client:
        assert client.post("/v1/completions", content=BODY, headers=rebound).status_code == status
        assert client.post("/v1/completions", content=BODY, headers={"Host": "nlp.example"}).status_code == 200

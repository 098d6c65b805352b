import asyncio
import gzip
import socket
from collections.abc import AsyncGenerator

import pytest
from starlette.testclient import TestClient

from serve.classification.classifier import Classifier
from serve.generated_text import GenerationResult, StreamEvent
from serve.http.app import make_app
from serve.queue_wait import client_deadline
from serve.requests import GenerationRequest
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import live_app, live_server


class SlowEngine(ToyEngine):
    """Answers after half a minute, or says that it was not asked for any longer."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = False

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return await super().generate(request)


class SlowStream(ToyEngine):
    """Takes a tenth of a second an event."""

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        async for event in super().stream(request):
            yield event
            await asyncio.sleep(0.1)


def test_a_request_ends_when_its_client_waits_no_longer() -> None:
    engine = SlowEngine()
    with TestClient(make_app(engine)) as client:
        response = client.post("/v1/completions", json={"prompt": "a"}, headers={"X-Request-Timeout": "0.1"})
    assert (response.status_code, response.headers["connection"]) == (504, "close")
    assert response.json()["error"]["message"] == "not answered within the 0.1 s of X-Request-Timeout"
    assert engine.cancelled


def test_a_deadline_is_that_of_its_own_request() -> None:
    seen: list[float | None] = []

    class Looking(ToyEngine):
        async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
            seen.append(client_deadline.get())
            return await super().generate(request)

    body = b'{"prompt": "a"}'
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        % len(body)
    )
    with live_app(make_app(Looking())) as client:
        place = (client.base_url.host, client.base_url.port)
        with socket.create_connection(place, timeout=10) as connection:
            first, second = head + b"X-Request-Timeout: 5\r\n\r\n" + body, head + b"Connection: close\r\n\r\n" + body
            connection.sendall(first + second)  # in one go: the second is handled in the first one's context
            while connection.recv(10_000):
                pass
    assert (seen[0] is None, seen[1]) == (False, None)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with TestClient(make_app(ToyEngine())) as client:
        response = client.post("/v1/completions", json={"prompt": "a"}, headers={"X-Request-Timeout": text})
    assert response.status_code == 422
    assert "is no number of seconds above 0" in response.json()["error"]["message"]


def test_a_stream_that_has_begun_is_finished_after_the_deadline() -> None:
    with TestClient(make_app(SlowStream())) as client:
        body = {"prompt": "abcd", "stream": True}
        response = client.post("/v1/completions", json=body, headers={"X-Request-Timeout": "0.2"})
    assert response.text.rstrip().endswith("data: [DONE]")


def test_post_requests_are_counted_by_status() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        client.post("/v1/completions", json={"prompt": "a"})
        client.post("/v1/completions", json={})
        client.get("/v1/models")
        lines = client.get("/metrics").text.splitlines()
    counts = sorted(line for line in lines if line.startswith("adamix_requests_total{"))
    assert counts == [
        'adamix_requests_total{code="200",method="POST"} 1.0',
        'adamix_requests_total{code="422",method="POST"} 1.0',
    ]
    assert "adamix_request_seconds_count 2.0" in lines


def test_head_answers_as_get_does_without_a_body(classifier: Classifier) -> None:
    with live_server(classifier) as client:
        head, get = client.head("/health"), client.get("/health")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_a_slash_at_the_end_is_none() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        answer = client.post("/v1/completions/", json={"prompt": "a"}, follow_redirects=False)
        assert (answer.status_code, answer.json()["choices"][0]["text"]) == (200, "A")
        assert client.get("/health/", follow_redirects=False).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_compressed_body_is_415(encoding: str) -> None:
    with TestClient(make_app(ToyEngine())) as client:
        body = gzip.compress(b'{"prompt": "a"}')
        answer = client.post("/v1/completions", content=body, headers={"content-encoding": encoding})
        plain = client.post("/v1/completions", json={"prompt": "a"}, headers={"content-encoding": "identity"})
    assert (answer.status_code, plain.status_code) == (415, 200)
    assert f"the body has the encoding {encoding}: send it without" in answer.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, gzip", "deflate"])
def test_a_transfer_coding_other_than_chunked_is_501(coding: str) -> None:
    with TestClient(make_app(ToyEngine())) as client:
        answer, plain = (
            client.post("/v1/completions", content=iter([b'{"prompt": "a"}']), headers={"transfer-encoding": one})
            for one in (coding, "Chunked")
        )
    assert (answer.status_code, plain.status_code) == (501, 200)
    assert f"the body has the encoding {coding}: send it without" in answer.json()["error"]["message"]


def test_a_bug_is_counted_as_a_500() -> None:
    with TestClient(make_app(ToyEngine(RuntimeError("a bug"))), raise_server_exceptions=False) as client:
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 500
        client.post("/v1/completions", content=b"x", headers={"content-encoding": "gzip"})
        lines = client.get("/metrics").text.splitlines()
    assert {
        'adamix_requests_total{code="500",method="POST"} 1.0',
        'adamix_requests_total{code="415",method="POST"} 1.0',
    } <= set(lines)


def test_a_method_that_is_not_allowed_is_told_which_are() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        for method, path, allowed in (("DELETE", "/health", "GET"), ("GET", "/v1/completions", "POST")):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_pages_of_other_origins_ask_where_they_may() -> None:
    asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
    for origins, allowed in (([], None), (["https://page.example"], "https://page.example")):
        with TestClient(make_app(ToyEngine(), cors_origins=origins)) as client:
            answer = client.options("/v1/completions", headers=asks)
            assert answer.headers.get("access-control-allow-origin") == allowed
            answer = client.post("/v1/completions", json={"prompt": "a"}, headers={"origin": "https://page.example"})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert answer.headers.get("access-control-expose-headers") == (
                "X-Adapter, X-Adapter-Sha256, X-Batch, X-Request-Id, traceresponse" if allowed else None
            )


def test_the_documentation_is_found_behind_a_prefix() -> None:
    """uvicorn puts the prefix that a proxy took away in front of the path again."""
    with TestClient(make_app(ToyEngine()), root_path="/nlp") as client:
        assert "/nlp/openapi.json" in client.get("/nlp/docs").text
        assert client.get("/nlp/openapi.json").json()["servers"] == [{"url": "/nlp"}]
        assert client.get("/nlp/health").status_code == 200
        for path in ("/nlp/v1/completions", "/nlp/nlp/v1/completions"):  # of a proxy that leaves the prefix, too
            assert "message" in client.post(path, json={}).json()["error"], "an error of OpenAI's form"


@pytest.mark.parametrize("root", ["/v1", "/health", "/v1/completions", "/v2/health", "/docs"])
def test_a_prefix_may_begin_as_a_route_does(root: str) -> None:
    with TestClient(make_app(ToyEngine()), root_path=root) as client:
        for path in ("/v1/models", "/health", "/v2/health/live", "/docs", "/openapi.json"):
            assert client.get(root + path).status_code == 200


def test_a_prefix_is_whole_segments_of_a_path() -> None:
    with TestClient(make_app(ToyEngine()), root_path="/nlp") as client:
        assert client.get("/nlp/nlp/health").status_code == 200
        assert client.get("/nlp/nlphealth").status_code == 404


def test_a_streams_time_ends_with_the_stream() -> None:
    with TestClient(make_app(SlowStream())) as client:
        client.post("/v1/completions", json={"prompt": "abcd", "stream": True})
        shown = client.get("/metrics").text
    (seconds,) = (line.split()[1] for line in shown.splitlines() if line.startswith("adamix_request_seconds_sum"))
    assert float(seconds) >= 0.4
    assert 'adamix_requests_total{code="200",method="POST"} 1.0' in shown

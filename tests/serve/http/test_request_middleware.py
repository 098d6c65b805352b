import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.api_keys import ApiKey, ApiKeys
from serve.engine import Engine
from serve.errors import GenerationFailed
from serve.generated_text import GenerationResult, StreamEvent
from serve.http.app import PROTOCOLS, make_app
from serve.http.request_middleware import route_templates
from serve.request_context import current_request
from serve.requests import GenerationRequest
from serve.telemetry.access_log import AccessLog
from serve.telemetry.request_observer import RequestObserver
from tests.fixtures.toy_engine import ToyEngine

ID = {"X-Request-Id": "mine"}
TEXT = {"prompt": "a"}


def client_of(engine: Engine, *, share: float | None = None, **options: Any) -> TestClient:
    observer = None if share is None else RequestObserver(engine, access_log=AccessLog(share))
    return TestClient(make_app(engine, observer=observer, **options), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/completions", TEXT, 200),
        ("POST", "/v1/completions", {**TEXT, "stream": True}, 200),
        ("POST", "/v1/completions", {}, 422),
        ("GET", "/v1/models/nobody", None, 404),
        ("POST", "/v1/completions", {"prompt": "a" * 2000}, 413),
        ("PUT", "/v1/completions", None, 405),
        ("POST", "/nowhere", None, 404),
        ("GET", "/health", None, 200),
        ("HEAD", "/health", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/docs", None, 200),
    ],
)
def test_every_answer_has_the_id_of_its_request(method: str, path: str, body: object, status: int) -> None:
    with client_of(ToyEngine(), payload_limit=1000) as client:
        response = client.request(method, path, json=body, headers=ID)
        assert response.status_code == status
        assert response.headers.get_list("X-Request-Id") == ["mine"]
        fresh = client.request(method, path, json=body, headers={"X-Request-Id": "not plain"})
    assert re.fullmatch("[0-9a-f]{32}", fresh.headers["X-Request-Id"])
    assert "traceresponse" not in fresh.headers


def test_so_have_those_of_middleware() -> None:
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256=hashlib.sha256(b"one").hexdigest())})
    with client_of(ToyEngine(), api_keys=keys, cors_origins=["https://page.example"]) as client:
        refused = client.post("/v1/completions", json=TEXT, headers=ID)
        assert (refused.status_code, refused.headers["X-Request-Id"]) == (401, "mine")
        encoded = client.post("/v1/completions", content=b"", headers={**ID, "content-encoding": "gzip"})
        assert (encoded.status_code, encoded.headers["X-Request-Id"]) == (415, "mine")
        asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
        asked = client.options("/v1/completions", headers={**ID, **asks})
        assert (asked.status_code, asked.headers["X-Request-Id"]) == (200, "mine")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), GenerationFailed("it failed")])
def test_a_failure_has_its_id_in_answer_and_log(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(ToyEngine(error), share=0.0) as client, caplog.at_level(logging.INFO):
        response = client.post("/v1/completions", json=TEXT, headers=ID)
    assert response.status_code == 500
    assert response.headers.get_list("X-Request-Id") == ["mine"]
    (line,) = [vars(record) for record in caplog.records if record.name == "serve.telemetry.access_log"]
    assert line["request"].request_id == "mine"
    assert (line["fields"]["status"], line["fields"]["route"]) == (500, "/v1/completions")


class EngineThatLooks(ToyEngine):
    """Keeps the id of the request that it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        await asyncio.sleep(0.01)
        current = current_request.get()
        assert current is not None
        self.seen.append(f"{request.prompts[0]} {current.request_id}")
        return await super().generate(request)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        async for event in super().stream(request):
            yield event


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_sees_the_request_that_it_works_for(stream: bool) -> None:
    engine = EngineThatLooks()
    with client_of(engine) as client:
        for number in range(5):
            headers = {"X-Request-Id": f"id-{number}"}
            client.post("/v1/completions", json={"prompt": f"p{number}", "stream": stream}, headers=headers)
    assert engine.seen == [f"p{number} id-{number}" for number in range(5)]


def test_a_stream_is_logged_at_its_end_with_all_of_its_bytes(caplog: pytest.LogCaptureFixture) -> None:
    with client_of(ToyEngine(), share=1.0) as client, caplog.at_level(logging.INFO):
        response = client.post("/v1/completions", json={"prompt": "many letters", "stream": True})
    (line,) = [vars(record)["fields"] for record in caplog.records if record.name == "serve.telemetry.access_log"]
    assert line["bytes_out"] == len(response.content)
    assert line["bytes_in"] == len(response.request.content)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/predict", "/predict"),
        ("/v2/models/any/infer", "/v2/models/{name}/infer"),
        ("/v2/models/any/versions/1/infer", "/v2/models/{name}/versions/{version}/infer"),
        ("/v2/models/any", "/v2/models/{name}"),
        ("/nowhere", None),
        ("/predict/more", None),
    ],
)
def test_a_path_has_the_template_of_its_route(path: str, template: str | None) -> None:
    routes = [route for one in PROTOCOLS.values() for router in one.routers for route in router.routes]
    assert route_templates(routes)(path) == template


def test_a_path_below_a_prefix_has_the_template_of_its_route(caplog: pytest.LogCaptureFixture) -> None:
    engine = ToyEngine()
    app = make_app(engine, observer=RequestObserver(engine, access_log=AccessLog(1.0)))
    with TestClient(app, root_path="/nlp") as client, caplog.at_level(logging.INFO):
        assert client.post("/nlp/v1/completions/", json=TEXT).status_code == 200
    (line,) = [vars(record)["fields"] for record in caplog.records if record.name == "serve.telemetry.access_log"]
    assert line["route"] == "/v1/completions"

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from serve.adapter_loading import AdapterLoading
from serve.api_keys import Allowance, ApiKey, ApiKeys
from serve.http.app import make_app
from serve.telemetry.prometheus import MetricOptions
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.test_api_keys import sha256


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    keys = [
        ApiKey(name="acme", sha256=sha256("one"), requests=Allowance(2)),
        ApiKey(name="operator", sha256=sha256("two"), admin=True),
    ]
    engine = ToyEngine()
    loading = AdapterLoading(engine=engine, root=tmp_path)
    app = make_app(engine, loading=loading, api_keys=ApiKeys({key.name: key for key in keys}))
    with TestClient(app) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def complete(client: TestClient, headers: dict[str, str]) -> httpx.Response:
    return client.post("/v1/completions", json={"prompt": "a"}, headers=headers)


def test_a_request_needs_a_known_key(client: TestClient) -> None:
    assert complete(client, bearer("one")).status_code == 200
    for headers in ({}, bearer("three"), {"Authorization": "Basic one"}):
        refused = complete(client, headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "path", ["/metrics", "/docs", "/openapi.json", "/v1/models", "/v2/models/toy", "/nowhere", "//health/"]
)
def test_everything_but_health_needs_one(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401


def test_metrics_may_be_open() -> None:
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256=sha256("one"))})
    with TestClient(make_app(ToyEngine(), api_keys=keys, metrics=MetricOptions(are_open=True))) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/live", "/ping", "/v2/health/live"])
def test_health_needs_none(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_a_key_that_has_used_up_its_requests_is_429(client: TestClient) -> None:
    assert [complete(client, bearer("one")).status_code for _ in range(3)] == [200, 200, 429]
    refused = complete(client, bearer("one"))
    assert 20 <= int(refused.headers["retry-after"]) <= 30
    assert complete(client, bearer("two")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v2/repository/models/mood/load"])
def test_adapters_are_loaded_by_administrators(client: TestClient, path: str) -> None:
    body = {"lora_name": "mood", "lora_path": "mood"} if "lora" in path else {}
    assert client.post(path, json=body, headers=bearer("one")).status_code == 403
    allowed = client.post(path, json=body, headers=bearer("two"))
    assert allowed.status_code == 422
    assert "there is no adapter folder" in allowed.text

from collections.abc import Iterator

from starlette.testclient import TestClient

from serve.classification.classifier import Classifier
from serve.http.app import make_app
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import live_server


def test_a_body_over_the_limit_is_413(classifier: Classifier) -> None:
    with live_server(classifier, payload_limit=1000) as client:
        assert client.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code == 200
        response = client.post("/predict", json={"inputs": "x" * 1001, "adapter": "tone"})
        assert (response.status_code, response.json()["error_type"]) == (413, "payload_too_large")


def test_a_body_whose_length_is_not_announced_is_limited_as_well() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    with TestClient(make_app(ToyEngine(), payload_limit=1000)) as client:
        response = client.post("/v1/completions", content=chunks())
    assert response.status_code == 413
    assert response.json()["error"] == {
        "message": "the request has more than 1000 bytes: send less at once",
        "type": "invalid_request_error",
        "param": None,
        "code": "payload_too_large",
    }


def test_post_requests_are_counted_by_status() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        client.post("/v1/completions", json={"prompt": "a"})
        client.post("/v1/completions", json={})
        client.get("/v1/models")
        lines = client.get("/metrics").text.splitlines()
    counts = sorted(line for line in lines if line.startswith("adamix_requests_total{"))
    assert counts == ['adamix_requests_total{code="200"} 1.0', 'adamix_requests_total{code="422"} 1.0']
    assert "adamix_request_seconds_count 2.0" in lines

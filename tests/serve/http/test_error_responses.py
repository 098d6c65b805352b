import threading
import time

import httpx
import pytest
from starlette.testclient import TestClient

from serve.classification.classifier import Classifier
from serve.errors import (
    AdapterFailed,
    ClassificationFailed,
    DeadlineExceeded,
    DeviceLost,
    GenerationFailed,
    InputError,
    NotAllowed,
    NotAuthenticated,
    NotReady,
    Overloaded,
    ServeError,
    ShuttingDown,
    UnknownAdapter,
)
from serve.http.app import make_app
from serve.http.error_responses import INTERNAL, KINDS, kind_of
from serve.limits import BatchLimits
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import live_server
from tests.serve.http.conftest import Gate


def test_a_body_that_is_not_json_is_400(client: httpx.Client) -> None:
    response = client.post("/predict", content=b"{oops", headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error_type"]) == (400, "validation")
    assert "not JSON" in response.json()["error"]


def test_invalid_utf8_is_a_400(client: httpx.Client) -> None:
    body = b'{"inputs": "\xff\xfe", "adapter": "tone"}'
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400


def test_a_lone_surrogate_is_refused(client: httpx.Client) -> None:
    body = b'{"inputs": "good \\ud800", "adapter": "tone"}'
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert "the body is not JSON: unexpected end of hex escape at line 1 column" in response.json()["error"]


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (7.2, "8")])
def test_an_overload_says_when_to_come_again(seconds: float, header: str) -> None:
    engine = ToyEngine(Overloaded("too much waits", retry_after=seconds))
    with TestClient(make_app(engine)) as client:
        response = client.post("/v1/completions", json={"prompt": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (429, header)


def test_a_full_queue_is_429_with_retry_after(classifier: Classifier, gate: Gate) -> None:
    with live_server(classifier, BatchLimits(max_queued_requests=2)) as client:
        answers: list[int] = []

        def ask(count: int) -> None:
            body = {"inputs": [["good"]] * count, "adapter": "tone"}
            answers.append(client.post("/predict", json=body).status_code)

        first = threading.Thread(target=ask, args=(1,))
        first.start()
        assert gate.reached.wait(10)
        second = threading.Thread(target=ask, args=(2,))
        second.start()
        while "adamix_queue_rows 2.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = client.post("/predict", json={"inputs": [["good"]], "adapter": "tone"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        gate.opened.set()
        first.join()
        second.join()
        assert answers == [200, 200]


ERRORS = [
    (InputError, 422, "validation", "invalid_request_error", None),
    (NotAuthenticated, 401, "not_authenticated", "invalid_request_error", "invalid_api_key"),
    (NotAllowed, 403, "not_allowed", "invalid_request_error", "not_allowed"),
    (UnknownAdapter, 404, "unknown_adapter", "invalid_request_error", "model_not_found"),
    (AdapterFailed, 500, "failed", "server_error", "adapter_failed"),
    (Overloaded, 429, "overloaded", "rate_limit_error", "rate_limit_exceeded"),
    (ClassificationFailed, 500, "failed", "server_error", "classification_failed"),
    (GenerationFailed, 500, "failed", "server_error", "generation_failed"),
    (DeadlineExceeded, 504, "deadline_exceeded", "server_error", "timeout"),
    (DeviceLost, 503, "unhealthy", "server_error", "device_lost"),
    (NotReady, 503, "unhealthy", "server_error", "not_ready"),
    (ShuttingDown, 503, "draining", "server_error", "shutting_down"),
    (ServeError, 500, "internal", "server_error", "internal"),
]


@pytest.mark.parametrize(("error", "status", "error_type", "openai_type", "openai_code"), ERRORS)
def test_an_error_below_v1_has_openais_form(
    error: type[ServeError], status: int, error_type: str, openai_type: str, openai_code: str | None
) -> None:
    with TestClient(make_app(ToyEngine(error("broken")))) as client:
        response = client.post("/v1/completions", json={"prompt": "a"})
    assert response.status_code == status
    param = "model" if error in (UnknownAdapter, AdapterFailed) else None
    assert response.json() == {"error": {"message": "broken", "type": openai_type, "param": param, "code": openai_code}}
    assert response.headers.get("retry-after") == ("1" if status in (429, 503) else None)
    assert kind_of(error("broken")).error_type == error_type


def test_every_kind_of_error_is_tested() -> None:
    assert KINDS.keys() == {error for error, *_ in ERRORS}


def test_a_field_that_is_wrong_below_v1_is_the_param() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        wrong = client.post("/v1/completions", json={"prompt": "a", "n": "many"}).json()["error"]
        assert (wrong["type"], wrong["param"], wrong["code"]) == ("invalid_request_error", "n", None)
        assert wrong["message"].startswith("n: Input should be a valid integer")
        broken = client.post("/v1/completions", content=b"{oops")
        assert broken.status_code == 400
        assert broken.json()["error"]["message"].startswith("the body is not JSON")
        assert client.get("/v1/nothing").json()["error"]["message"] == "Not Found"
        assert client.get("/nothing").json() == {"error": "Not Found", "error_type": "http"}


def test_a_bug_is_a_500_without_its_details() -> None:
    app = make_app(ToyEngine(RuntimeError("secret")))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.post("/v1/completions", json={"prompt": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in response.text


def test_an_error_without_an_entry_has_that_of_its_nearest_base() -> None:
    class TooManyTopics(InputError):
        pass

    class Unheard(ServeError):
        pass

    assert kind_of(TooManyTopics("")) is KINDS[InputError]
    assert kind_of(Unheard("")) is KINDS[ServeError]
    assert kind_of(ValueError("")) is INTERNAL

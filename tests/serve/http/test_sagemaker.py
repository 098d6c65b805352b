import httpx
import pytest
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import make_app
from tests.fixtures.toy_engine import ToyEngine


@pytest.fixture
def writer() -> TestClient:
    return TestClient(make_app(ToyEngine()))


def test_a_classifier_answers_as_predict_does(client: httpx.Client) -> None:
    body = {"inputs": [["good"], ["bad"]], "adapter": "tone"}
    assert client.post("/invocations", json=body).json() == client.post("/predict", json=body).json()
    assert client.get("/ping").json() == {"status": "ok"}


def test_a_generator_answers_as_completions_do(writer: TestClient) -> None:
    found = writer.post("/invocations", json={"prompt": "abc", "model": "toy"}).json()
    assert found["choices"][0]["text"] == "ABC"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [], "model": "base"}),
        ("/v1/completions", {"prompt": "a", "temperature": -1}),
        ("/v1/completions", {"prompt": "a", "echo": "x"}),
    ],
)
def test_an_error_has_the_form_of_the_route_that_answers(
    writer: TestClient, path: str, body: dict[str, object]
) -> None:
    answer, expected = writer.post("/invocations", json=body), writer.post(path, json=body)
    assert (answer.status_code, answer.json()) == (expected.status_code, expected.json())
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"input": ["good", "bad"], "model": "tone"}),
        ("/classify", {"input": "good", "model": "nobody"}),
        ("/rerank", {"query": "good", "texts": ["bad", "good"], "adapter": "match"}),
        ("/rerank", {"query": "good", "texts": []}),
    ],
)
def test_bodies_of_vllm_and_of_reranks_find_their_routes(mixed: Classifier, path: str, body: dict[str, object]) -> None:
    with TestClient(make_app(AsyncClassifier(mixed))) as classifying:
        answer, expected = (classifying.post(one, json=body) for one in ("/invocations", path))
    if path == "/classify" and expected.status_code == 200:
        assert answer.json()["data"] == expected.json()["data"]
    else:
        assert (answer.status_code, answer.json()) == (expected.status_code, expected.json())


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"inputs": "a"}'])
def test_a_body_of_no_route_is_told_which_there_are(writer: TestClient, body: bytes) -> None:
    answer = writer.post("/invocations", content=body)
    assert answer.status_code == 422
    assert "messages (as in /v1/chat/completions), prompt (as in /v1/completions)" in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"nonsense", b"\xff", b"[" * 200_000, b'{"inputs":' + b"[" * 3000 + b"]" * 3000 + b"}"]
)
def test_a_body_that_is_not_json_is_400(writer: TestClient, body: bytes) -> None:
    answer = writer.post("/invocations", content=body)
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, "the body is not JSON")


def test_a_server_that_stops_does_not_answer_pings(writer: TestClient) -> None:
    writer.app.state.engine.draining = True  # type: ignore[attr-defined]
    assert writer.get("/ping").status_code == 503

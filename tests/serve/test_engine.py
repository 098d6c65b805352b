"""The seam: an engine and a protocol that know nothing of each other, each of them one entry of a table."""

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from serve.engine import Capability, GenerationEngine
from serve.errors import InputError, ShuttingDown
from serve.http.app import PROTOCOLS, make_app
from tests.fixtures.toy_engine import TOY_PROTOCOL, ToyEngine


class TooLoud(InputError):
    """An error that no table lists."""


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(ToyEngine(), protocols={**PROTOCOLS, "toy": TOY_PROTOCOL})) as client:
        yield client


def failing(error: Exception) -> TestClient:
    """A client of a toy engine that always fails."""
    return TestClient(make_app(ToyEngine(error), protocols={**PROTOCOLS, "toy": TOY_PROTOCOL}))


def test_a_toy_engine_has_the_methods_of_the_seam() -> None:
    engine: GenerationEngine = ToyEngine()
    assert engine.capabilities == {Capability.GENERATE}


def test_middleware_answers_in_the_form_of_the_protocol() -> None:
    app = make_app(ToyEngine(), payload_limit=10, protocols={**PROTOCOLS, "toy": TOY_PROTOCOL})
    with TestClient(app) as client:
        refused = client.post("/toy/shout", json=["a text of more than ten bytes"])
    assert (refused.status_code, refused.json()["status"]) == (413, 413)


def test_an_error_that_no_table_lists_has_the_status_of_its_base() -> None:
    with failing(TooLoud("quieter")) as client:
        assert client.post("/toy/shout", json=["a"]).json() == {"oops": "quieter", "status": 422}


def test_the_protocols_there_are_serve_a_new_engine(client: TestClient) -> None:
    completion = client.post("/v1/completions", json={"prompt": ["a", "b"]})
    assert [choice["text"] for choice in completion.json()["choices"]] == ["A", "B"]
    assert completion.headers["x-adapter"] == "toy"
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["toy"]
    assert client.get("/info").json()["task"] == "toy"


def test_a_stream_is_a_start_pieces_of_text_and_a_result(client: TestClient) -> None:
    lines = client.post("/v1/completions", json={"prompt": "ab", "stream": True}).text.splitlines()
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert [choice["text"] for choice in choices] == ["A", "B", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]


def test_a_stream_that_is_refused_is_an_ordinary_error() -> None:
    with failing(ShuttingDown("stopping")) as client:
        response = client.post("/v1/completions", json={"prompt": "ab", "stream": True})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")

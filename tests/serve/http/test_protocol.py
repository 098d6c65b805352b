from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from serve.engine import Capability
from serve.errors import InputError
from serve.http.app import PROTOCOLS, make_app
from serve.http.protocol import ErrorKind, HttpProtocol
from tests.fixtures.toy_engine import TOY_PROTOCOL, ToyEngine

router = APIRouter()


@router.get("/anywhere/ping")
async def ping() -> str:
    return "pong"


def everything(message: str, kind: ErrorKind, param: str | None) -> dict[str, Any]:
    return {"message": message, "kind": asdict(kind), "param": param}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(ToyEngine(), protocols={**PROTOCOLS, "toy": TOY_PROTOCOL})) as client:
        yield client


def failing(error: Exception) -> TestClient:
    """A client of a toy engine that always fails."""
    return TestClient(make_app(ToyEngine(error), protocols={**PROTOCOLS, "toy": TOY_PROTOCOL}))


def test_a_new_protocol_is_one_entry(client: TestClient) -> None:
    assert client.post("/toy/shout", json=["hello"]).json() == {"shouted": "HELLO"}
    assert client.get("/health").status_code == 200


def test_a_protocols_errors_have_its_form_below_its_prefix_and_nowhere_else() -> None:
    with failing(InputError("too quiet")) as client:
        refused = client.post("/toy/shout", json=["hello"])
        assert (refused.status_code, refused.json()) == (422, {"oops": "too quiet", "status": 422})
        assert client.get("/toy/nothing").json() == {"oops": "Not Found", "status": 404}
        assert client.post("/v1/completions", json={"prompt": "a"}).json()["error"]["message"] == "too quiet"
        assert client.get("/nothing").json() == {"error": "Not Found", "error_type": "http"}


def test_a_protocol_that_an_engine_is_not_capable_of_is_left_out() -> None:
    class Mute(ToyEngine):
        capabilities = frozenset()

    with TestClient(make_app(Mute(), protocols={**PROTOCOLS, "toy": TOY_PROTOCOL})) as client:
        assert client.post("/toy/shout", json=["hello"]).status_code == 404
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 404


def test_a_protocol_without_prefix_and_capability_is_every_engines_and_answers_for_every_path() -> None:
    plain = HttpProtocol(routers=(router,), error_body=everything)
    picky = HttpProtocol(routers=(router,), error_body=everything, capability=Capability.CLASSIFY)
    with TestClient(make_app(ToyEngine(), protocols={"plain": plain})) as client:
        assert client.get("/anywhere/ping").json() == "pong"
        assert client.get("/elsewhere").json() == {
            "message": "Not Found",
            "kind": {
                "status": 404,
                "error_type": "http",
                "openai_type": "invalid_request_error",
                "openai_code": None,
            },
            "param": None,
        }
    with TestClient(make_app(ToyEngine(), protocols={"picky": picky})) as client:
        assert client.get("/anywhere/ping").status_code == 404

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import NAMES
from tests.fixtures.toy_engine import SHA256, ToyEngine
from tests.serve.conftest import BASE


def test_a_model_is_an_adapter_of_the_base() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        assert client.get("/v1/models").json() == {
            "object": "list",
            "data": [{"id": "toy", "object": "model", "owned_by": "adamix", "root": SHA256, "parent": "toy"}],
        }


def test_the_base_is_listed_behind_the_adapters_by_the_hash_of_its_weights(generator: Generator) -> None:
    with TestClient(make_app(AsyncTextGenerator(generator))) as client:
        models = client.get("/v1/models").json()["data"]
    hashes = {name: generator.cards[name].sha256 for name in NAMES}
    assert {model["id"]: model["root"] for model in models} == {**hashes, "base": BASE}
    assert models[-1]["id"] == "base"
    assert {model["parent"] for model in models} == {"tiny"}


def test_the_parent_of_a_member_is_the_adapter_that_is_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ToyEngine()
    (toy,) = engine.models()
    monkeypatch.setattr(engine, "models", lambda: [toy, replace(toy, name="toy.0", member_of="toy")])
    monkeypatch.setattr(engine, "info", lambda: replace(ToyEngine().info(), base={"name": "tiny"}))
    with TestClient(make_app(engine)) as client:
        models = client.get("/v1/models").json()["data"]
    assert {model["id"]: model["parent"] for model in models} == {"toy": "tiny", "toy.0": "toy"}

import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import NAMES
from tests.fixtures.toy_engine import SHA256, ToyEngine
from tests.serve.conftest import BASE


def test_a_model_is_an_adapter_of_the_base() -> None:
    before = int(time.time())
    with TestClient(make_app(ToyEngine())) as client:
        found = client.get("/v1/models").json()
        assert client.get("/v1/models/toy").json() == found["data"][0]
    created = found["data"][0].pop("created")
    assert 0 < created <= before
    model = {"id": "toy", "object": "model", "owned_by": "adamix", "root": SHA256, "parent": "toy", "max_model_len": 8}
    assert found == {"object": "list", "data": [{**model, "prompt": None, "chat": None, "tools": None}]}


def test_a_model_that_is_not_there_is_no_other_one(generator: Generator) -> None:
    with TestClient(make_app(AsyncTextGenerator(generator))) as client:
        found = client.get("/v1/models/east")
        assert found.status_code == 404
        error = found.json()["error"]
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert error["message"] == "there is no model 'east' here; /v1/models lists those there are"


def test_classifiers_are_listed_as_well(classifier: Classifier) -> None:
    with TestClient(make_app(AsyncClassifier(classifier))) as client:
        models = client.get("/v1/models").json()["data"]
        assert [(model["id"], model["prompt"], model["chat"]) for model in models] == [
            ("tone", None, None),
            ("intent", None, None),
        ]
        assert client.get("/v1/models/tone").json()["parent"] == "tiny"


def test_a_model_tells_in_which_form_it_reads_a_chat(generator: Generator) -> None:
    """An adapter reads its own prompt; the base has no chat template here."""
    with TestClient(make_app(AsyncTextGenerator(generator))) as client:
        models = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert {(models[name]["prompt"], models[name]["chat"]) for name in NAMES} == {("{input}", "prompt")}
    assert models["base"]["chat"] is None


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

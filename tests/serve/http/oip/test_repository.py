from pathlib import Path

import httpx
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import make_app
from serve.oip.models import models_of
from tests.fixtures.members import bundle_with_members
from tests.serve.conftest import Reference


def test_the_server_is_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/tone/ready").json() == {"name": "tone", "ready": True}
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == (
        "adamix-serve",
        ["binary_tensor_data", "generate", "model_repository"],
    )


def test_a_server_that_stops_is_live_and_not_ready(classifier: Classifier) -> None:
    engine = AsyncClassifier(classifier)
    with TestClient(make_app(engine)) as client:
        engine.prepare_to_drain()
        client.portal.call(engine.drain)  # type: ignore[union-attr]
        assert client.get("/v2/health/live").status_code == 200
        ready = client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"error": "the server is stopping"})
        assert client.get("/v2/models/tone/ready").status_code == 503


def test_a_model_is_described(client: httpx.Client, classifier: Classifier) -> None:
    assert client.get("/v2/models/intent").json() == {
        "name": "intent",
        "versions": [classifier.cards["intent"].sha256[:12]],
        "platform": "onnxruntime_adamix",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "labels", "datatype": "BYTES", "shape": [3]},
        ],
    }
    bank = client.get("/v2/models/adamix").json()
    assert [one["name"] for one in bank["inputs"]] == ["text", "text_pair", "adapter"]
    assert client.get("/v2/models/mood").status_code == 404
    assert client.get("/v2/models/tone/versions/1").status_code == 404


def test_the_repository_lists_every_model_once(client: httpx.Client, classifier: Classifier) -> None:
    listed = client.post("/v2/repository/index").json()
    versions = {name: card.sha256[:12] for name, card in classifier.cards.items()}
    assert {one["name"]: one["version"] for one in listed} == {"adamix": "", **versions}
    assert {one["state"] for one in listed} == {"READY"}


def test_the_index_lists_the_ready_models_where_that_is_asked_for(classifier: Classifier) -> None:
    engine = AsyncClassifier(classifier)
    with TestClient(make_app(engine)) as client:
        index = "/v2/repository/index"
        listed = client.post(index).json()
        for asked in ({"ready": True}, {"ready": False}, {"ready": None}, {}):
            assert client.post(index, json=asked).json() == listed
        wrong = client.post(index, json={"redy": True})
        assert (wrong.status_code, wrong.json()["error"]) == (422, "redy: unknown field, leave it out")
        assert client.post(index, json={"ready": "perhaps"}).status_code == 422
        assert client.post(index, content=b"{oops").status_code == 400
        client.portal.call(engine.drain)  # type: ignore[union-attr]
        assert client.post(index, json={"ready": True}).json() == []
        stopping = client.post(index, json={"ready": False}).json()
    assert stopping == [{**one, "state": "UNAVAILABLE", "reason": "the server is stopping"} for one in listed]


def test_members_are_models_that_no_list_shows(tmp_path: Path, reference: Reference) -> None:
    bundle = bundle_with_members(tmp_path / "bundle", reference, ["tone"], of=["tone"])
    engine = AsyncClassifier(Classifier(bundle, provider="cpu", threads=1))
    with TestClient(make_app(engine)) as client:
        member = next(name for name, model in models_of(engine).items() if model.is_member)
        assert client.get(f"/v2/models/{member}").status_code == 200
        assert member not in {one["name"] for one in client.post("/v2/repository/index").json()}
        assert member not in client.get("/v2/models/mood").json()["error"]

from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import httpx
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.engine import DeviceInfo
from serve.http.app import make_app
from tests.fixtures.fake_driver import LOST
from tests.fixtures.members import bundle_with_members
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import BASE, Reference, live_app, write_bundle


def test_health_and_info(client: httpx.Client, classifier: Classifier) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert client.get(path).json() == {"status": "ok"}
    info = client.get("/info").json()
    assert info["adapters"]["tone"]["sha256"] == classifier.cards["tone"].sha256
    assert info["slots"] == 2
    assert info["graph"] == "model.onnx"
    assert info["graph_bytes"] == (classifier.model.bundle.folder / "model.onnx").stat().st_size
    assert (info["adapters"]["tone"]["rank"], info["adapters"]["tone"]["num_modules"]) == (2, 4)
    assert (info["adapters"]["tone"]["module_distances"], info["adapters"]["tone"]["record_fields"]) == ([], [])
    assert info["ensemble"] is False


def test_health_is_503_while_the_engine_drains() -> None:
    engine = ToyEngine()
    with TestClient(make_app(engine)) as client:
        engine.draining = True
        assert client.get("/health").status_code == 503
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").json() == {"status": "ok"}


class LostSession:
    """A session whose GPU is lost."""

    def run_with_ort_values(self, *_: Any) -> NoReturn:
        raise RuntimeError(LOST)


def test_a_gpu_that_is_lost_turns_the_server_unready(classifier: Classifier) -> None:
    """The first request finds the loss; later ones are refused, and health and metrics tell of it."""
    failure = "the GPU failed (CUDA failure 700: an illegal memory access was encountered)"
    with live_app(make_app(AsyncClassifier(classifier))) as client:
        batch = {"inputs": [["good"], ["bad"]], "adapter": "tone"}
        assert client.post("/predict", json=batch).status_code == 200
        assert "adamix_healthy 1.0" in client.get("/metrics").text
        classifier.runner.executor.session = classifier.shared_runner.executor.session = LostSession()
        for _ in range(2):
            lost = client.post("/predict", json=batch)
            assert (lost.status_code, lost.json()["error_type"]) == (503, "unhealthy")
            assert lost.json()["error"].startswith(failure)
        health = client.get("/health")
        assert health.status_code == 503
        assert health.json()["error"].startswith(failure)
        assert "adamix_healthy 0.0" in client.get("/metrics").text
        for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 503  # only a restart helps
        assert client.get("/info").status_code == 200


def test_info_tells_the_provider_and_the_device(client: httpx.Client, classifier: Classifier) -> None:
    info = client.get("/info").json()
    assert (info["provider"], info["device"]) == ("CPUExecutionProvider", None)
    classifier.model.gpu = DeviceInfo(name="NVIDIA H100 80GB HBM3", memory_bytes=85_000_000_000)
    assert client.get("/info").json()["device"] == {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 85_000_000_000}


def test_info_has_what_clients_of_text_embeddings_inference_read(tmp_path: Path, reference: Reference) -> None:
    types = {}
    for name in ("intent", "grade"):
        bundle = write_bundle(tmp_path / name, reference, [name])
        app = make_app(AsyncClassifier(Classifier(bundle, provider="cpu", threads=1)), max_client_batch_size=7)
        with TestClient(app) as client:
            info = client.get("/info").json()
        assert (info["model_id"], info["model_sha"], info["max_client_batch_size"]) == ("tiny", BASE, 7)
        assert info["version"] == version("adamix")
        types[name] = info["model_type"]
    labels = {"0": "billing", "1": "delivery", "2": "other"}
    back = {"billing": 0, "delivery": 1, "other": 2}
    assert types["intent"] == {"classifier": {"id2label": labels, "label2id": back}}
    assert types["grade"] == {"reranker": {"id2label": {"0": "score"}, "label2id": {"score": 0}}}


def test_info_has_the_type_of_each_of_several_adapters(client: httpx.Client) -> None:
    info = client.get("/info").json()
    assert "model_type" not in info
    assert info["adapters"]["tone"]["model_type"]["classifier"]["label2id"] == {"negative": 0, "positive": 1}


def test_info_keeps_members_apart_from_the_adapters_that_are_their_means(tmp_path: Path, reference: Reference) -> None:
    bundle = bundle_with_members(tmp_path, reference, ["tone", "intent"], of=["tone"])
    with live_app(make_app(AsyncClassifier(Classifier(bundle, provider="cpu", threads=1)))) as client:
        info = client.get("/info").json()
    assert list(info["adapters"]) == ["tone", "intent"]
    assert {name: member["member_of"] for name, member in info["members"].items()} == {
        f"tone.{index}": "tone" for index in range(4)
    }
    assert info["members"]["tone.2"]["sha256"] == bundle.adapters["tone.2"].card.sha256

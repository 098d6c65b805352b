import httpx
from starlette.testclient import TestClient

from serve.classification.classifier import Classifier
from serve.http.app import make_app
from tests.fixtures.toy_engine import ToyEngine


def test_health_and_info(client: httpx.Client, classifier: Classifier) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    info = client.get("/info").json()
    assert info["adapters"]["tone"]["sha256"] == classifier.cards["tone"].sha256
    assert info["slots"] == 2
    assert info["graph"] == "model.onnx"


def test_health_is_503_while_the_engine_drains() -> None:
    engine = ToyEngine()
    with TestClient(make_app(engine)) as client:
        engine.draining = True
        assert client.get("/health").status_code == 503

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKey, ApiKeys
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import make_app
from tests.serve.conftest import LABELS, Reference, live_app, write_adapter, write_bundle


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    """A folder with `intent`, and another adapter that is called tone; a third lies beside it."""
    write_adapter(tmp_path / "adapters" / "intent", reference, "intent")
    write_adapter(tmp_path / "adapters" / "newer", reference, "match", pairs=False, name="tone", labels=LABELS["tone"])
    write_adapter(tmp_path / "secret", reference, "grade")
    return tmp_path / "adapters"


@pytest.fixture
def bank(root: Path, tmp_path: Path, reference: Reference) -> Iterator[httpx.Client]:
    classifier = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone"]), provider="cpu", threads=1)
    engine = AsyncClassifier(classifier)
    with live_app(make_app(engine, loading=AdapterLoading(engine=engine, root=root))) as client:
        yield client


def names(client: httpx.Client) -> list[str]:
    return list(client.get("/info").json()["adapters"])


def predict(client: httpx.Client, adapter: str) -> httpx.Response:
    return client.post("/predict", json={"inputs": "good", "adapter": adapter})


def test_adapters_come_and_go_while_the_server_runs(bank: httpx.Client) -> None:
    assert predict(bank, "intent").status_code == 404
    loaded = bank.post("/v1/load_lora_adapter", json={"lora_name": "intent", "lora_path": "intent"})
    assert (loaded.status_code, loaded.json()["id"]) == (200, "intent")
    assert predict(bank, "intent").headers["x-adapter-sha256"] == loaded.json()["root"]
    assert bank.post("/v1/unload_lora_adapter", json={"lora_name": "intent"}).json()["deleted"]
    assert predict(bank, "intent").status_code == 404
    assert names(bank) == ["tone"]


def test_a_name_is_replaced_where_that_is_asked_for(bank: httpx.Client) -> None:
    asked = {"lora_name": "tone", "lora_path": "newer"}
    before = predict(bank, "tone").headers["x-adapter-sha256"]
    taken = bank.post("/v1/load_lora_adapter", json=asked)
    assert (taken.status_code, predict(bank, "tone").headers["x-adapter-sha256"]) == (422, before)
    assert "there are two adapters called tone" in taken.json()["error"]["message"]
    replaced = bank.post("/v1/load_lora_adapter", json={**asked, "load_inplace": True})
    assert predict(bank, "tone").headers["x-adapter-sha256"] == replaced.json()["root"] != before


def test_the_open_inference_protocol_loads_by_name(bank: httpx.Client) -> None:
    assert bank.post("/v2/repository/models/intent/load", json={}).json() == {}
    assert bank.get("/v2/models/intent/ready").json()["ready"]
    asked = {"parameters": {"unload_dependents": False}}
    assert bank.post("/v2/repository/models/intent/unload", json=asked).status_code == 200
    assert bank.get("/v2/models/intent").status_code == 404
    assert bank.post("/v2/repository/models/intent/unload").status_code == 404


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"lora_name": "grade", "lora_path": "../secret"}, "is not below the folder"),
        ({"lora_name": "grade", "lora_path": "/etc"}, "is not below the folder"),
        ({"lora_name": "grade", "lora_path": ""}, "is not below the folder"),
        ({"lora_name": "grade", "lora_path": "link"}, "is not below the folder"),
        ({"lora_name": "grade", "lora_path": "x\0y"}, "there is no adapter folder"),
        ({"lora_name": "grade", "lora_path": "x" * 5000}, "there is no adapter folder"),
        ({"lora_name": "grade", "lora_path": "nowhere"}, "there is no adapter folder 'nowhere'"),
        ({"lora_name": "grade", "lora_path": "intent"}, "is called intent, not grade: load it by its own name"),
        ({"lora_name": "empty", "lora_path": "empty"}, "empty is not a bundle or adapter of adamix-export"),
        ({"lora_name": "cut", "lora_path": "./cut/"}, "./cut/adapter.json is damaged"),
        ({"lora_name": "loop", "lora_path": "loop"}, "there is no adapter folder 'loop'"),
        ({"lora_name": "grade", "lora_path": "linked"}, "is a link to a file that is not below --adapter-dir"),
        ({"lora_name": "intent", "lora_path": "intent", "lora_int_id": 1}, "lora_int_id"),
    ],
)
def test_a_request_that_is_wrong_is_told_why_and_changes_nothing(
    bank: httpx.Client, root: Path, asked: dict[str, Any], message: str
) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    (root / "empty").mkdir()
    (root / "cut").mkdir()
    (root / "cut" / "adapter.json").write_text("{")
    (root / "loop").symlink_to(root / "loop")
    (root / "linked").mkdir()
    for file in (root.parent / "secret").iterdir():
        (root / "linked" / file.name).symlink_to(file)
    response = bank.post("/v1/load_lora_adapter", json=asked)
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]
    assert names(bank) == ["tone"]
    assert str(root) not in response.text
    if "adapter folder" in message or "not below" in message:
        assert response.json()["error"]["param"] == "lora_path"


def test_a_parameter_that_would_change_the_model_is_refused(bank: httpx.Client) -> None:
    assert bank.post("/v2/repository/models/intent/unload", json={"parameters": None}).status_code == 404
    response = bank.post("/v2/repository/models/intent/load", json={"parameters": {"config": "{}"}})
    assert (response.status_code, names(bank)) == (422, ["tone"])
    assert "unknown parameter 'config'" in response.json()["error"]


WRITES = [
    ("/v1/load_lora_adapter", b"no JSON"),
    ("/v1/load_lora_adapter", b'{"lora_name": 1}'),
    ("/v1/unload_lora_adapter", b"{}"),
    ("/v2/repository/models/intent/load", b'{"parameters": {"config": "{}"}}'),
    ("/v2/repository/models/intent/unload", b"[]"),
]


@pytest.mark.parametrize(("path", "body"), WRITES)
def test_a_client_that_is_no_administrator_learns_nothing_of_its_body(
    classifier: Classifier, root: Path, path: str, body: bytes
) -> None:
    entries = {
        name: ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), admin=name == "admin")
        for name in ("acme", "admin")
    }
    engine = AsyncClassifier(classifier)
    app = make_app(engine, loading=AdapterLoading(engine=engine, root=root), api_keys=ApiKeys(entries))
    with live_app(app) as client:
        statuses = [client.post(path, content=body, headers={"X-API-Key": name}).status_code for name in entries]
    assert statuses[0] == 403
    assert statuses[1] in (400, 422)


def test_a_server_without_a_folder_loads_nothing(client: httpx.Client) -> None:
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        asked = {"lora_name": "tone", **({"lora_path": "tone"} if "/load" in path else {})}
        response = client.post(path, json=asked)
        assert response.status_code == 403
        assert "start adamix-serve with --adapter-dir FOLDER" in response.json()["error"]["message"]
    assert client.post("/v2/repository/models/tone/unload").status_code == 403
    assert client.get("/v2/models/tone").status_code == 200

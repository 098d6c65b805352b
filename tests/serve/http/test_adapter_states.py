"""GET /v1/adapters over a classifier's bank, and adapters on first use over every protocol."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.adapter_loading import AdapterLoading, Source
from serve.api_keys import ApiKey, ApiKeys
from serve.bundle.adapter import WEIGHTS
from serve.bundle.reader import open_bundle
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.errors import InputError
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.lookup import LookupEngine
from serve.lookup_room import BoundedLookup
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import Reference, live_app, write_adapter, write_bundle

TEMPLATE = "{{ messages[0].content }}"


@pytest.fixture
def loading(tmp_path: Path, reference: Reference) -> AdapterLoading:
    """Adapters of a bundle with two slots, and a folder of one that is whole and one that is not."""
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "match"])
    classifier = Classifier(bundle, provider="cpu", threads=1, slots=2, pins=["tone"])
    for name in ("intent", "grade", "extra"):
        write_adapter(tmp_path / "adapters" / name, reference, name if name != "extra" else "tone", name=name)
    (tmp_path / "adapters" / "grade" / WEIGHTS).write_bytes(b"")
    return AdapterLoading(engine=AsyncClassifier(classifier), root=tmp_path / "adapters")


def listed(client: httpx.Client, **headers: str) -> dict[str, dict[str, Any]]:
    response = client.get("/v1/adapters", headers=headers)
    assert response.status_code == 200
    return {one["name"]: one for one in response.json()["data"]}


def test_every_adapter_has_its_state(loading: AdapterLoading) -> None:
    with live_app(make_app(loading.engine, loading=loading)) as client:
        loaded = client.post("/v1/load_lora_adapter", json={"lora_name": "intent", "lora_path": "intent"}).json()
        failed = client.post("/v1/load_lora_adapter", json={"lora_name": "grade", "lora_path": "grade"})
        found = listed(client)
    assert {name: one["status"] for name, one in found.items()} == {
        "tone": "slot",
        "match": "host",
        "intent": "slot",
        "grade": "failed",
        "extra": "available",
    }
    assert {name for name, one in found.items() if one["served"]} == {"tone", "match", "intent"}
    assert [name for name, one in found.items() if one["pinned"]] == ["tone"]
    intent = found["intent"]
    assert (intent["sha256"], intent["version"]) == (loaded["root"], loaded["root"][:12])
    assert (intent["base"], intent["task"], intent["kind"]) == ("tiny", "text-classification", "lora")
    assert (intent["rank"], intent["source"], intent["folder"]) == (4, "client", "intent")
    assert intent["size_bytes"] > 0 and intent["in_host_memory"] and intent["slot"] in (1, 2)
    assert found["grade"]["error"] == failed.json()["error"]["message"]
    assert "grade/adapter.safetensors is damaged" in found["grade"]["error"]


def test_an_adapter_that_is_served_tells_why_its_folder_was_refused(loading: AdapterLoading) -> None:
    assert loading.root is not None
    loading.bring_up("intent", name=None, source=Source.WATCH)
    (loading.root / "intent" / WEIGHTS).write_bytes(b"")
    with pytest.raises(InputError, match="is damaged"):
        loading.bring_up("intent", name="intent", source=None, replace=True)
    with live_app(make_app(loading.engine, loading=loading)) as client:
        intent = listed(client)["intent"]
    assert (intent["status"], intent["served"], intent["source"]) == ("slot", True, "watch")
    assert "intent/adapter.safetensors is damaged" in intent["error"]


def test_the_listing_needs_a_key_and_shows_no_paths_and_no_unloaded_ones_but_to_administrators(
    loading: AdapterLoading,
) -> None:
    keys = {
        name: ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), admin=name == "root")
        for name in ("root", "reader")
    }
    with pytest.raises(InputError):
        loading.bring_up("grade", name=None, source=Source.WATCH)
    with live_app(make_app(loading.engine, loading=loading, api_keys=ApiKeys(keys))) as client:
        assert client.get("/v1/adapters").status_code == 401
        assert listed(client, **{"X-API-Key": "root"}).keys() == {"tone", "match", "grade", "intent", "extra"}
        response = client.get("/v1/adapters", headers={"X-API-Key": "reader"})
    assert {one["name"] for one in response.json()["data"]} == {"tone", "match", "grade"}
    assert str(loading.root) not in response.text and "/tmp" not in response.text


def test_an_engine_that_does_not_say_where_its_adapters_are_lists_them() -> None:
    with live_app(make_app(ToyEngine())) as client:
        (toy,) = listed(client).values()
    assert (toy["status"], toy["served"], toy["slot"]) == ("registered", True, None)


def test_the_document_has_the_listing(loading: AdapterLoading) -> None:
    document = make_app(loading.engine, loading=loading).openapi()
    assert "/v1/adapters" in document["paths"]
    assert document["components"]["schemas"]["AdapterState"]["properties"]["status"]["description"]


@pytest.fixture
def on_demand(tmp_path: Path, reference: Reference) -> Iterator[httpx.Client]:
    """A classifier and a generator that serve little; their other adapters lie in a folder."""
    write_bundle(tmp_path / "classifier", reference, ["tone"])
    generator_folder = write_byte_bundle(tmp_path / "generator", TEMPLATE)
    root = tmp_path / "adapters"
    write_adapter(root / "intent", reference, "intent")
    (root / "south").mkdir()
    for file in (generator_folder / "adapters" / "south").iterdir():
        (root / "south" / file.name).write_bytes(file.read_bytes())
    classifier = AsyncClassifier(Classifier(tmp_path / "classifier", provider="cpu", threads=1, slots=2))
    generator = AsyncTextGenerator(Generator(open_bundle(generator_folder), provider="cpu", threads=1))
    generator.unload("south")
    engine = CombinedEngine([classifier, generator])
    loading = AdapterLoading(engine=engine, root=root)
    served = LookupEngine(engine, BoundedLookup(loading, most=1))
    with live_app(make_app(served, loading=loading)) as client:
        yield client


REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "predict": ("intent", "/predict", {"inputs": "good", "adapter": "intent"}),
    "classify": ("intent", "/classify", {"input": "good", "model": "intent"}),
    "infer": (
        "intent",
        "/v2/models/intent/infer",
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}]},
    ),
    "bank": (
        "intent",
        "/v2/models/adamix/infer",
        {
            "inputs": [
                {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]},
                {"name": "adapter", "datatype": "BYTES", "shape": [1], "data": ["intent"]},
            ]
        },
    ),
    "huggingface": ("intent", "/models/intent", {"inputs": "good"}),
    "sagemaker": ("intent", "/invocations", {"inputs": "good", "adapter": "intent"}),
    "completions": ("south", "/v1/completions", {"model": "south", "prompt": "good", "max_tokens": 2}),
    "stream": ("south", "/v1/completions", {"model": "south", "prompt": "good", "max_tokens": 2, "stream": True}),
    "chat": (
        "south",
        "/v1/chat/completions",
        {"model": "south", "messages": [{"role": "user", "content": "good"}], "max_tokens": 2},
    ),
    "generate": ("south", "/v2/models/south/generate", {"text_input": "good", "max_tokens": 2}),
    "tokenize": ("south", "/tokenize", {"model": "south", "prompt": "good"}),
    "metadata": ("intent", "/v2/models/intent", None),
    "ready": ("south", "/v2/models/south/ready", None),
    "model": ("south", "/v1/models/south", None),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_protocol_loads_an_adapter_on_first_use(on_demand: httpx.Client, kind: str) -> None:
    name, path, body = REQUESTS[kind]
    other = "south" if name == "intent" else "intent"
    assert listed(on_demand)[name]["status"] == "available"
    response = on_demand.get(path) if body is None else on_demand.post(path, json=body)
    assert response.status_code == 200, response.text
    if "x-adapter" in response.headers:
        assert response.headers["x-adapter"] == name
    found = listed(on_demand)
    assert (found[name]["served"], found[name]["source"], found[other]["served"]) == (True, "lookup", False)
    unknown = path.replace(name, "nowhere")
    if unknown != path:
        response = on_demand.get(unknown) if body is None else on_demand.post(unknown, json=body)
        assert response.status_code == 404


def test_an_adapter_that_cannot_be_loaded_is_one_clear_error_in_each_protocol(
    on_demand: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "adapters" / "south" / WEIGHTS).write_bytes(b"")
    message = "is there and cannot be served until its files are mended: south/adapter.safetensors is damaged"
    for kind in ("completions", "generate", "model"):
        _, path, body = REQUESTS[kind]
        for _ in range(2):
            response = on_demand.get(path) if body is None else on_demand.post(path, json=body)
            assert response.status_code == 500
            assert message in response.text
            assert str(tmp_path) not in response.text
    assert listed(on_demand)["south"]["status"] == "failed"


def test_the_lookup_keeps_no_more_than_its_bound_over_two_bundles(on_demand: httpx.Client) -> None:
    for kind in ("predict", "completions", "predict"):
        _, path, body = REQUESTS[kind]
        assert on_demand.post(path, json=body).status_code == 200
    for _ in range(100):
        served = [name for name, one in listed(on_demand).items() if one["source"] == "lookup"]
        if served == ["intent"]:
            break
        asyncio.run(asyncio.sleep(0.02))
    assert served == ["intent"]

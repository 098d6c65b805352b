"""Facts of a server, from one bundle or several, with and without the route that tells where adapters are."""

import asyncio
from typing import Any

import httpx
import pytest

from demos.page.adapters_tab import metric_of, render
from demos.page.catalog import Catalog, read_catalog
from demos.page.how_tab import explain, metrics_of_modules
from demos.page.page import describe
from demos.page.server_client import PageError, ServerClient

TONE = {
    "sha256": "a" * 64,
    "kind": "lora",
    "pairs": False,
    "labels": ["negative", "positive"],
    "max_length": 8,
    "metrics": {"accuracy": 0.5},
    "parity": {"max_difference": 2e-6, "equal_labels": 1.0},
    "rank": 8,
    "num_modules": 4,
}
INFO = {
    "task": "text-classification",
    "shape": "bank",
    "precision": "fp32",
    "provider": "CPUExecutionProvider",
    "slots": 2,
    "base": {"name": "tiny", "sha256": "0", "model_type": "bert"},
    "graph_bytes": 1_000_000,
    "adapters": {"tone": TONE},
    "members": {},
    "max_client_batch_size": 64,
}
MODELS = {"data": [{"id": "tone", "parent": "tiny", "prompt": None}]}
STATES = {
    "data": [
        {
            "name": "tone",
            "status": "slot",
            "slot": 1,
            "served": True,
            "pinned": True,
            "size_bytes": 25_000,
            "error": None,
        },
        {"name": "bad", "status": "failed", "served": False, "error": "bad/adapter.safetensors is damaged"},
        {"name": "mood", "status": "available", "served": False, "error": None},
    ]
}


def catalog_of(**routes: Any) -> Catalog:
    def handler(request: httpx.Request) -> httpx.Response:
        found = routes.get(request.url.path.rpartition("/")[2])
        return httpx.Response(404, json={"error": "Not Found"}) if found is None else httpx.Response(200, json=found)

    return asyncio.run(read_catalog(ServerClient("http://server", transport=httpx.MockTransport(handler))))


def test_where_an_adapter_is_and_its_share_of_the_base_are_shown() -> None:
    shown = render(catalog_of(info=INFO, models=MODELS, adapters=STATES))
    for cell in ("slot 1, pinned", "24 KiB", "2.50%", "accuracy 0.500", "within 2.0e-06, 100.0% equal"):
        assert f">{cell}<" in shown
    assert ">refused<" in shown and ">not loaded<" in shown
    assert "bad: bad/adapter.safetensors is damaged" in shown


def test_a_server_without_that_route_is_shown_from_what_it_tells() -> None:
    catalog = catalog_of(info=INFO, models=MODELS)
    assert (catalog.classifiers, catalog.generators, catalog.others) == (["tone"], [], [])
    assert ">served<" in render(catalog)


def test_of_several_bundles_each_adapter_knows_its_own_and_members_are_no_models() -> None:
    north = {**TONE, "labels": [], "metrics": {}, "parity": None}
    writer = {**INFO, "task": "text-generation", "adapters": {"north": north}}
    models = [
        *MODELS["data"],
        {"id": "north", "parent": "tiny", "prompt": "{input}"},
        {"id": "north.0", "parent": "north", "prompt": "{input}"},
        {"id": "base", "parent": "tiny", "prompt": "{input}"},
    ]
    catalog = catalog_of(info={"bundles": [INFO, writer], "max_client_batch_size": 64}, models={"data": models})
    assert catalog.generators == ["base", "north"]
    assert catalog.classifiers == ["tone"]
    assert catalog.adapters["north"].bundle.task == "text-generation"
    assert describe(catalog, "here") == (
        "here has 2 adapters: 1 on tiny (text-classification, fp32 on CPU); 1 on tiny (text-generation, fp32 on CPU)."
    )


def test_a_metric_is_shown_before_a_loss_and_that_of_the_test_file_first() -> None:
    def shown(**metrics: float) -> str | None:
        found = catalog_of(info={**INFO, "adapters": {"tone": {**TONE, "metrics": metrics}}}, models=MODELS)
        return metric_of(found.adapters["tone"])

    assert shown(loss=0.4, accuracy=0.5, test_loss=0.3, test_accuracy=0.6) == "accuracy 0.600 (test file)"
    assert shown(loss=0.4, accuracy=0.5, test_loss=0.3) == "accuracy 0.500"
    assert shown(test_loss=0.3) == "loss 0.300 (test file)"
    assert shown() is None


def test_the_metric_of_each_module_is_shown_where_the_bundle_has_them_all() -> None:
    parity = {"metric": "accuracy", "onnx": 0.75, "ensemble": 0.8}
    tone = {**TONE, "num_modules": 2, "module_distances": [0.5, 0.25], "parity": parity}
    members = {
        f"tone.{number}": {**TONE, "member_of": "tone", "parity": {"onnx": 0.7 + number / 100}} for number in (0, 1)
    }
    adapter = catalog_of(info={**INFO, "adapters": {"tone": tone}, "members": members}, models=MODELS).adapters["tone"]
    assert metrics_of_modules(adapter) == {
        "module 1": 0.7, "module 2": 0.71, "their ensemble": 0.8, "their mean, which is served": 0.75,
    }  # fmt: skip
    shown = explain(adapter)
    assert "50.0&nbsp;%" in shown and ">0.7100<" in shown and "accuracy of the modules and their mean" in shown
    alone = catalog_of(info={**INFO, "adapters": {"tone": tone}}, models=MODELS).adapters["tone"]
    assert metrics_of_modules(alone) == {}
    assert "Exported with --keep-modules" in explain(alone)


def test_one_module_is_not_said_to_be_averaged() -> None:
    found = catalog_of(info={**INFO, "adapters": {"tone": {**TONE, "num_modules": 1}}}, models=MODELS)
    shown = explain(found.adapters["tone"])
    assert "There is nothing to average" in shown and "modules" not in shown


def test_another_program_is_no_server() -> None:
    with pytest.raises(PageError, match="What answers at http://server is not adamix-serve"):
        catalog_of(info={"hello": 1}, models={"data": []})

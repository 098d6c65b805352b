"""The page over a server with two adapters that are computed by hand."""

import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest

from demos.playground import main, make_page
from demos.server import free_port
from serve.bundle.adapter import write_card
from serve.bundle.reader import open_bundle
from serve.bundle.writer import write_manifest
from serve.classification.classifier import Classifier
from tests.serve.conftest import Reference, live_server, reference, write_bundle

__all__ = ["reference"]
ADAPTERS = ["tone", "intent"]


@pytest.fixture
def classifier(tmp_path: Path, reference: Reference) -> Classifier:
    """The classifier that is served; tone was measured on a test file."""
    folder = write_bundle(tmp_path / "bundle", reference, ADAPTERS)
    bundle = open_bundle(folder)
    write_card(folder / "adapters" / "tone", replace(bundle.adapters["tone"].card, metrics={"test_accuracy": 0.875}))
    write_manifest(folder, bundle.manifest)
    return Classifier(folder, provider="cpu", threads=1)


@pytest.fixture
def server(classifier: Classifier) -> Iterator[httpx.Client]:
    with live_server(classifier) as client:
        yield client


def button_of(page: gr.Blocks) -> Callable[[str], list[Any]]:
    """What a click calls."""
    (found,) = [function.fn for function in page.fns.values() if function.api_name == "classify"]
    return found


def test_a_click_shows_the_scores_of_every_adapter_and_which_weights_gave_them(
    server: httpx.Client, classifier: Classifier, reference: Reference
) -> None:
    *answers, status = button_of(make_page(str(server.base_url)))("the bill is late")
    for name, answer in zip(ADAPTERS, answers, strict=True):
        shares = np.exp(reference.logits([1, 8, 7, 9, 6, 2], name))
        labels = classifier.registry.find(name).card.labels
        assert answer == pytest.approx(dict(zip(labels, (shares / shares.sum()).tolist(), strict=True)), abs=1e-5)
    hashes = [classifier.registry.find(name).card.sha256[:12] for name in ADAPTERS]
    named = rf"Answered by \*\*tone\*\* `{hashes[0]}`, \*\*intent\*\* `{hashes[1]}`\."
    assert re.fullmatch(rf"2 adapters in one batch, \d+ ms\. {named}", status)


def test_the_page_describes_the_base_and_every_adapter(server: httpx.Client, classifier: Classifier) -> None:
    page = make_page(str(server.base_url))
    text = "\n".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.Markdown))
    assert "One base model (tiny), 2 adapters, one batch, fp32 on CPU." in text
    tone, intent = (classifier.registry.find(name).card.sha256[:12] for name in ADAPTERS)
    assert f"| tone | lora | negative, positive | 0.875 | `{tone}` |" in text
    assert f"| intent | lora | billing, delivery, other | nan | `{intent}` |" in text


def test_what_the_server_refuses_and_that_it_is_gone_are_errors_of_the_page(classifier: Classifier) -> None:
    with live_server(classifier) as client:
        click = button_of(make_page(str(client.base_url)))
        classifier.registry.unload("intent")
        with pytest.raises(gr.Error, match="there is no adapter 'intent' here; there are tone"):
            click("good")
    with pytest.raises(gr.Error, match=rf"The server at {client.base_url} does not answer"):
        click("good")


def test_without_a_server_it_ends_and_says_what_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(sys, "argv", ["playground", address])
    with pytest.raises(SystemExit, match=f"no server answers at {address} .*: start adamix-serve first"):
        main()


def test_a_port_that_is_taken_ends_it(server: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["playground", str(server.base_url), "--port", port])
        with pytest.raises(SystemExit, match=rf"demos\.playground: .*{port}.*; give another --port"):
            main()

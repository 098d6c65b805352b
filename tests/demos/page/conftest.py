"""One real server with small bundles of both kinds, pages over it, and a real browser."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from demos.page import child_process
from demos.page.page import launch, make_page
from demos.page.server_client import ServerClient
from demos.page.training_place import TrainingPlace
from demos.server import free_port, running_server
from docs.draw_screenshots import find_browser
from serve.bundle.adapter import write_card
from serve.bundle.reader import open_bundle
from serve.bundle.writer import write_manifest
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.serve.conftest import Reference, reference, relist, write_adapter, write_bundle

__all__ = ["reference"]
READER, ADMIN, LIMITED = "reader-key", "admin-key", "limited-key"
KEYS = {
    "reader": (READER, ""),
    "operator": (ADMIN, "admin = true"),
    "limited": (LIMITED, "requests_per_minute = 5"),
}
"""Keys by their holder, each with what else its table says."""
BALLAST = 500
"""Width of the matrices that slow the generator down."""
PATIENCE_MS = 20_000
"""Milliseconds in which the page has to show what a test expects; a machine with other work is slow."""
PHONE = {"width": 375, "height": 812}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Iterator[str]:
    """Address of a server with two classifiers, a generator with three adapters, keys, and an adapter to load."""
    folder = tmp_path_factory.mktemp("page")
    classifiers = write_bundle(folder / "labels", reference, ["tone", "intent"], spare_slots=2)
    _change_card(classifiers, "tone", metrics={"test_accuracy": 0.875}, module_distances=[0.25, 0.5, 0.125, 0.0625])
    write_adapter(folder / "adapters" / "grade", reference, "grade")
    generator = write_byte_bundle(folder / "writer", "{{ messages[0].content }}", context=4096)
    _change_card(generator, "north", record_fields=["name", "price"])
    _slow_down(generator)
    tables = (
        f'[{holder}]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n{more}\n'
        for holder, (key, more) in KEYS.items()
    )
    (folder / "keys.toml").write_text("\n".join(tables))
    options = ["--provider", "cpu", "--adapter-dir", str(folder / "adapters"), "--api-keys", str(folder / "keys.toml")]
    with running_server(classifiers, generator, log=folder / "log", options=[*options, "--no-cache"]) as address:
        yield address


@pytest.fixture
def equal_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings not give way to everything else: beside other tests they would get no turn for minutes."""
    monkeypatch.setattr(child_process, "NICENESS", os.getpriority(os.PRIO_PROCESS, 0))


@contextmanager
def shown(client: ServerClient, *, training: TrainingPlace | None = None) -> Iterator[str]:
    """Serve a page for a server, and yield its address."""
    page, port = make_page(client, training=training), free_port()
    launch(page, port=port, wait=False)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="session")
def pages(server: str) -> Iterator[Callable[[str], str]]:
    """Returns the address of the page with an API key; each is made once."""
    made: dict[str, str] = {}
    with ExitStack() as stack:

        def page_for(key: str) -> str:
            if key not in made:
                made[key] = stack.enter_context(shown(ServerClient(server, api_key=key)))
            return made[key]

        yield page_for


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of this machine; while it is there, its loop runs, so that asyncio.run is refused."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: the page has not run in a browser (apt-get install chromium)")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new profile of the browser."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext, pages: Callable[[str], str]) -> Page:
    """The page of a reader, in a tab of the browser."""
    return opened(context, pages(READER))


def opened(context: BrowserContext, address: str) -> Page:
    """Open a page and wait until it has heard of the server."""
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("document.querySelector('#server-status')?.innerText.match(/ has |did not work/)")
    return page


def go_to(page: Page, title: str) -> None:
    """Go to a tab of the page, on a narrow screen through the menu of those that have no room."""
    shown = page.get_by_role("tab", name=title, exact=True)
    if shown.count():
        shown.click()
    else:
        page.get_by_label("More tabs").click()
        page.locator(".overflow-dropdown").get_by_text(title, exact=True).click()


def _change_card(folder: Path, name: str, **fields: object) -> None:
    """Write other values into the card of a bundle's adapter."""
    bundle = open_bundle(folder)
    write_card(folder / "adapters" / name, replace(bundle.adapters[name].card, **fields))
    write_manifest(folder, bundle.manifest)


def _slow_down(folder: Path) -> None:
    """Give each step of a bundle's graph some milliseconds of work that changes nothing, so that texts take a while."""
    model = onnx.load(folder / "model.onnx")
    node, (last,) = onnx.helper.make_node, model.graph.output[:1]
    (made,) = [one for one in model.graph.node if last.name in one.output]
    made.output[0] = "fast"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((BALLAST, BALLAST), np.float32), "ballast"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
    model.graph.node.extend(
        [
            node("ReduceMax", ["fast"], ["largest"], keepdims=0),
            node("Mul", ["ballast", "largest"], ["factor"]),
            node("MatMul", ["factor", "ballast"], ["product"]),
            node("ReduceMax", ["product"], ["work"], keepdims=0),
            node("Mul", ["work", "nothing"], ["zero"]),
            node("Add", ["fast", "zero"], [last.name]),
        ]
    )
    onnx.save(model, folder / "model.onnx")
    relist(folder)

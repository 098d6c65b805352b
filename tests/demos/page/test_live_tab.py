"""Tabs Live and How it works, in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from demos.page.server_client import ServerClient
from demos.server import running_server
from tests.demos.page.conftest import go_to, opened, shown
from tests.serve.conftest import Reference, write_bundle

pytestmark = pytest.mark.slow


@pytest.fixture
def idle_server(tmp_path: Path, reference: Reference) -> Iterator[str]:
    """Address of a server that nobody has asked anything."""
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    with running_server(bundle, options=["--no-cache", "--provider", "cpu"]) as address:
        yield address


def label_of(page: Page, title: str) -> str:
    """Return what screen readers say of a plot."""
    return page.get_by_role("img", name=re.compile(f"^{title}: ")).get_attribute("aria-label") or ""


def test_the_plots_of_an_idle_server_move_with_what_it_does(context: BrowserContext, idle_server: str) -> None:
    with shown(ServerClient(idle_server)) as address:
        page = opened(context, address)
        go_to(page, "Live")
        batches = page.get_by_role("img", name=re.compile("^Batch of a classifier: "))
        expect(batches).to_be_visible()
        assert label_of(page, "Throughput") == "Throughput: requests 0/s, texts 0/s"
        assert label_of(page, "Batch of a classifier") == "Batch of a classifier: nothing yet"
        assert label_of(page, "Latency of requests") == "Latency of requests: nothing yet"
        body = {"inputs": [["good"]] * 8, "adapter": ["tone", "intent"] * 4}
        assert httpx.post(f"{idle_server}/predict", json=body).status_code == 200
        expect(batches).to_have_attribute("aria-label", re.compile(": texts 8, adapters 2$"))
        assert re.search(r"texts (0\.[1-9]|[1-9])\S*/s$", label_of(page, "Throughput"))
        latency = page.get_by_role("img", name=re.compile("^Latency of requests: "))
        expect(latency).to_have_attribute("aria-label", re.compile(r": p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms$"))
        expect(batches.locator("path").first).to_have_attribute("d", re.compile("^M.* L"))


def test_only_the_open_tab_asks_for_metrics(tab: Page) -> None:
    go_to(tab, "Live")
    figures = tab.locator("#live-plots")
    expect(figures).to_contain_text("Throughput")
    go_to(tab, "Classify")
    tab.wait_for_timeout(1000)
    before = figures.inner_html()
    tab.wait_for_timeout(1500)
    assert figures.inner_html() == before


def test_the_method_is_explained_with_the_numbers_of_an_adapter(tab: Page) -> None:
    go_to(tab, "How it works")
    expect(tab.locator("#how-one")).to_contain_text(
        "While tone was trained, each place of the frozen base had 4 modules of rank 2"
    )
    expect(tab.locator("#how-one")).to_contain_text("Measured after the collapse: accuracy 0.875 (test file).")
    expect(tab.locator("#how-one li")).to_have_text(
        [re.compile(rf"module {number}\s*{share}") for number, share in enumerate(("25.0", "50.0", "12.5", "6.2"), 1)]
    )
    expect(tab.get_by_role("img", name="The weights of 4 modules are averaged into one adapter")).to_be_visible()
    expect(tab.locator("#how-bank")).to_contain_text("2 adapters on tiny, 4 slots.")
    tab.get_by_label("Adapter", exact=True).click()
    tab.get_by_role("option", name="intent").click()
    expect(tab.locator("#how-one")).to_contain_text("While intent was trained")
    expect(tab.locator("#how-one")).to_contain_text("4 modules of rank 4")

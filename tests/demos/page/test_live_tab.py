"""Tabs Live and How it works, in a browser."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.demos.page.conftest import READER, go_to

pytestmark = pytest.mark.slow


def test_the_plots_move_with_what_the_server_does(tab: Page, server: str) -> None:
    go_to(tab, "Live")
    batches = tab.get_by_role("img", name=re.compile("Batch of a classifier"))
    expect(tab.get_by_role("img", name=re.compile("^Throughput: requests "))).to_be_visible()
    body = {"inputs": [["good"]] * 8, "adapter": ["tone", "intent"] * 4}
    response = httpx.post(f"{server}/predict", json=body, headers={"X-API-Key": READER})
    assert response.status_code == 200
    expect(batches).to_have_attribute("aria-label", re.compile("texts 8, adapters 2$"))
    latency = tab.get_by_role("img", name=re.compile("^Latency of requests"))
    expect(latency).to_have_attribute("aria-label", re.compile(r"p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms$"))
    expect(batches.locator("path").first).to_have_attribute("d", re.compile("^M.* L"))


def test_only_the_open_tab_asks_for_metrics(tab: Page) -> None:
    go_to(tab, "Live")
    figures = tab.locator("#live-plots")
    expect(figures).to_contain_text("Throughput")
    go_to(tab, "Classify")
    tab.wait_for_timeout(300)
    before = figures.inner_html()
    tab.wait_for_timeout(1500)
    assert figures.inner_html() == before


def test_the_method_is_explained_with_the_numbers_of_an_adapter(tab: Page) -> None:
    go_to(tab, "How it works")
    expect(tab.locator("#how-one")).to_contain_text(
        "While tone was trained, each place of the frozen base had 4 modules of rank 2"
    )
    expect(tab.locator("#how-one")).to_contain_text("Measured after the collapse: accuracy 0.875 (test file).")
    expect(tab.get_by_role("img", name="The weights of 4 modules are averaged into one adapter")).to_be_visible()
    expect(tab.locator("#how-bank")).to_contain_text("2 adapters on tiny, 4 slots.")
    tab.get_by_label("Adapter", exact=True).click()
    tab.get_by_role("option", name="intent").click()
    expect(tab.locator("#how-one")).to_contain_text("While intent was trained")
    expect(tab.locator("#how-one")).to_contain_text("4 modules of rank 4")

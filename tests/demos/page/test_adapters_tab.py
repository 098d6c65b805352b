"""Tab Adapters, in a browser: the table, and loading and unloading with the right key and a wrong one."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.demos.page.conftest import ADMIN, READER, go_to

pytestmark = pytest.mark.slow


@pytest.fixture
def adapters(tab: Page) -> Page:
    go_to(tab, "Adapters")
    tab.get_by_role("button", name="Load and unload").click()
    return tab


@pytest.fixture(autouse=True)
def _unloaded(server: str) -> Iterator[None]:
    """Leave the server as it was, whatever a test has done."""
    yield
    httpx.post(f"{server}/v1/unload_lora_adapter", json={"lora_name": "grade"}, headers={"X-API-Key": ADMIN})


def names(server: str) -> set[str]:
    found = httpx.get(f"{server}/v1/models", headers={"X-API-Key": READER}).json()
    return {one["id"] for one in found["data"]}


def load(page: Page, folder: str, key: str) -> None:
    page.get_by_label("Administrator's key").fill(key)
    page.get_by_label("Folder below --adapter-dir").fill(folder)
    page.get_by_role("button", name="Load", exact=True).click()


def unload(page: Page, name: str) -> None:
    page.get_by_label("Adapter to unload").click()
    page.get_by_role("option", name=name).click()
    page.get_by_role("button", name="Unload", exact=True).click()


def test_the_table_has_every_adapter_with_its_numbers(tab: Page, server: str) -> None:
    go_to(tab, "Adapters")
    table = tab.get_by_role("region", name="Adapters of the server")
    info = httpx.get(f"{server}/info", headers={"X-API-Key": READER}).json()
    for bundle in info["bundles"]:
        for name, facts in bundle["adapters"].items():
            row = table.get_by_role("row", name=name)
            expect(row).to_contain_text(facts["sha256"][:12])
            expect(row).to_contain_text(f"lora, r {facts['rank']}")
            expect(row).to_contain_text("slot")
            expect(row).to_contain_text(re.compile(r"\d+ B|[\d.]+ KiB"))
    expect(table.get_by_role("row", name="tone")).to_contain_text("accuracy 0.875 (test file)")


def test_an_administrator_loads_and_unloads_and_the_pickers_follow(adapters: Page, server: str) -> None:
    load(adapters, "grade", ADMIN)
    expect(adapters.locator("#adapters-result")).to_contain_text("grade is loaded; its weights are ")
    expect(adapters.get_by_role("region", name="Adapters of the server")).to_contain_text("grade")
    assert "grade" in names(server)
    go_to(adapters, "Classify")
    adapters.get_by_label("grade").check()
    adapters.get_by_role("button", name="Classify", exact=True).click()
    expect(adapters.locator("#classify-result")).to_contain_text("3 adapters in one request")
    go_to(adapters, "Adapters")
    unload(adapters, "grade")
    expect(adapters.locator("#adapters-result")).to_contain_text("grade is unloaded")
    expect(adapters.get_by_role("region", name="Adapters of the server")).not_to_contain_text("grade")
    assert "grade" not in names(server)


@pytest.mark.parametrize(
    ("folder", "key", "said"),
    [
        ("grade", "", "The server does not allow this to the key that was given"),
        ("grade", "wrong", "The server wants an API key, and this key is none of its keys"),
        ("nowhere", ADMIN, "The server does not accept this request. It says: "),
        ("", ADMIN, "Give the adapter's folder first."),
    ],
)
def test_what_may_not_be_loaded_is_told(adapters: Page, server: str, folder: str, key: str, said: str) -> None:
    load(adapters, folder, key)
    expect(adapters.locator("#adapters-result")).to_contain_text(said)
    assert "grade" not in names(server)

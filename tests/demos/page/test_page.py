"""The page as a whole, in a browser: errors, every width, both colour schemes, the keyboard, screen readers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from demos.page.page import TABS
from demos.page.server_client import ServerClient
from demos.server import free_port, running_server
from serve.classification.classifier import Classifier
from tests.demos.page.conftest import LIMITED, PHONE, READER, go_to, opened, shown
from tests.serve.conftest import Reference, live_server, write_bundle

pytestmark = pytest.mark.slow
Pages = Callable[[str], str]
SERIOUS = ("serious", "critical")
TO_OPEN = {"Generate": "Sampling and JSON", "Adapters": "Load and unload"}
"""Parts of tabs that are folded."""


def classify(page: Page) -> None:
    page.get_by_role("button", name="Classify", exact=True).click()


def test_an_adapter_that_was_unloaded_meanwhile_is_told_and_leaves_with_the_next_look(
    context: BrowserContext, tmp_path: Path, reference: Reference
) -> None:
    classifier = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone", "intent"]), provider="cpu", threads=1)
    with live_server(classifier) as client, shown(ServerClient(str(client.base_url))) as address:
        page = opened(context, address)
        classifier.registry.unload("intent")
        classify(page)
        said = "may have been unloaded meanwhile. It says: there is no adapter 'intent' here; there are tone"
        expect(page.get_by_role("alert")).to_contain_text(said)
        page.get_by_role("button", name="Look again").click()
        expect(page.get_by_label("intent")).to_have_count(0)
        classify(page)
        expect(page.locator("#classify-result")).to_contain_text("1 adapter in one request")


def test_a_server_that_was_stopped_is_told_on_every_tab_and_the_page_recovers(
    context: BrowserContext, tmp_path: Path, reference: Reference
) -> None:
    bundle, port = write_bundle(tmp_path / "bundle", reference, ["tone"]), free_port()
    options = ["--no-cache", "--provider", "cpu"]
    with shown(ServerClient(f"http://127.0.0.1:{port}")) as address:
        with running_server(bundle, port=port, options=options):
            page = opened(context, address)
            classify(page)
            expect(page.locator("#classify-result")).to_contain_text("in one request")
        classify(page)
        said = f"The server at http://127.0.0.1:{port} does not answer. Start adamix-serve there, then try again."
        expect(page.locator("#classify-result").get_by_role("alert")).to_contain_text(said)
        for title in ("Adapters", "Live"):
            go_to(page, title)
            expect(page.get_by_role("tabpanel").get_by_role("alert").filter(visible=True).first).to_contain_text(said)
        expect(page.locator("#server-status")).to_contain_text(said)
        assert "Traceback" not in page.content()
        with running_server(bundle, port=port, options=options):
            page.get_by_role("button", name="Look again").click()
            expect(page.locator("#server-status")).to_contain_text("has 1 adapter: 1 on ")


def test_a_wrong_key_is_told(context: BrowserContext, pages: Pages) -> None:
    page = opened(context, pages("wrong"))
    expect(page.get_by_role("alert").first).to_contain_text("The server wants an API key")
    go_to(page, "Adapters")
    expect(page.locator("#adapters-table")).to_contain_text("The server wants an API key")


def test_a_key_that_has_used_up_its_minute_is_told_when_to_come_back(context: BrowserContext, pages: Pages) -> None:
    page = opened(context, pages(LIMITED))
    for _ in range(3):
        classify(page)
        expect(page.locator("#classify-result")).to_contain_text(re.compile("in one request|did not work"))
        page.get_by_label("Text", exact=True).press("End")
        page.keyboard.type("!")
    classify(page)
    expect(page.locator("#classify-result").get_by_role("alert")).to_contain_text(
        re.compile(r"The server is busy, or the key has used up its minute\. Try again in \d+ s\.")
    )


def test_texts_are_shown_as_they_are_and_run_nothing(tab: Page) -> None:
    go_to(tab, "Batch")
    text = "<img src=x onerror=document.title='run'> {{1}} ${1+1} `x`"
    file = {"name": "a.csv", "mimeType": "text/csv", "buffer": f'text\n"{text}"\n'.encode()}
    tab.locator("#batch-file input[type=file]").set_input_files([file])
    expect(tab.locator("#batch-result")).to_have_text("1 row.")
    tab.get_by_role("button", name="Classify the file").click()
    expect(tab.get_by_role("region", name="First rows with labels").get_by_role("row").nth(1)).to_contain_text(text)
    assert tab.title() == "AdaMix"


def test_the_page_is_used_with_the_keyboard_alone(tab: Page) -> None:
    tab.get_by_label("Text", exact=True).focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")  # the first adapter leaves
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator("#classify-result")).to_contain_text("1 adapter in one request")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_has_a_serious_violation_and_every_one_has_the_colours_that_the_reader_likes(
    browser: Browser, pages: Pages, scheme: Any
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = opened(context, pages(READER))
    classify(page)
    for title in TABS:
        go_to(page, title)
        if title in TO_OPEN:
            page.get_by_role("button", name=TO_OPEN[title]).click()
        page.wait_for_timeout(200)
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in SERIOUS]
        assert not found, [(title, one["id"], one["nodes"][0]["html"]) for one in found]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = sum(map(int, re.findall(r"\d+", background)[:3])) < 300
    assert is_dark == (scheme == "dark")
    context.close()


def test_on_a_phone_no_tab_is_wider_than_the_screen_and_no_word_is_broken_into_letters(
    browser: Browser, pages: Pages
) -> None:
    context = browser.new_context(viewport=PHONE)
    page = opened(context, pages(READER))
    classify(page)
    expect(page.locator("#classify-result")).to_contain_text("in one request")
    label = page.locator(".adamix-label", has_text="positive").bounding_box()
    assert label is not None and label["height"] < 40
    for title in TABS:
        go_to(page, title)
        if title in TO_OPEN:
            page.get_by_role("button", name=TO_OPEN[title]).click()
        width, screen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= screen, f"{title} is {width} pixels wide on a screen of {screen}"
    context.close()


def test_the_page_asks_no_other_machine(context: BrowserContext, pages: Pages) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, pages(READER))
    for title in TABS:
        go_to(page, title)
    page.wait_for_timeout(500)
    assert asked
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]

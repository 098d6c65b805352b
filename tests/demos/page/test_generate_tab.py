"""Tab Generate, in a browser."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.demos.page.conftest import READER, go_to
from tests.fixtures.processes import children

pytestmark = pytest.mark.slow
PROMPT = "a record"


def ask(server: str, model: str, **fields: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": PROMPT, **fields}
    response = httpx.post(f"{server}/v1/completions", json=body, headers={"X-API-Key": READER})
    (choice,) = response.json()["choices"]
    return choice


def metric(server: str, name: str) -> float:
    """Sum of a metric over its labels, but for what was cancelled."""
    text = httpx.get(f"{server}/metrics", headers={"X-API-Key": READER}).text
    return sum(map(float, re.findall(rf"^{name}(?:{{(?!reason=.cancelled).*}})? (\S+)$", text, re.MULTILINE)))


def text_of(page: Page, model: str) -> Locator:
    box = page.locator("#generate-texts section", has=page.get_by_role("heading", name=model, exact=True))
    return box.locator(".adamix-text")


def write(page: Page) -> None:
    go_to(page, "Generate")
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="Generate", exact=True).click()


def set_slider(page: Page, label: str, value: float) -> None:
    page.get_by_label(re.compile(f"number input for {label}")).fill(str(value))


def test_base_and_adapter_write_side_by_side_what_the_server_writes(tab: Page, server: str) -> None:
    write(tab)
    expect(tab.locator("#generate-status")).to_have_text("Done.")
    for model in ("base", "north"):
        choice = ask(server, model, max_tokens=64)
        assert text_of(tab, model).text_content() == choice["text"].lstrip("\r\n")
    expect(tab.locator("#generate-texts")).to_contain_text(re.compile(r"\d+ tokens, first after \d+ ms"))


def test_a_record_is_filled_in_and_becomes_the_prompt(tab: Page, server: str) -> None:
    go_to(tab, "Generate")
    form = tab.locator("#generate-record")
    expect(form.get_by_label("Fields of")).to_have_value("north")
    form.get_by_label("price", exact=True).fill("£2 [adults]")
    prompt = tab.get_by_label("Prompt", exact=True)
    expect(prompt).to_have_value("price[£2 (adults)]")
    form.get_by_label("name", exact=True).fill("Quiz")
    expect(prompt).to_have_value("name[Quiz], price[£2 (adults)]")
    expect(form.get_by_role("textbox")).to_have_count(2)
    tab.get_by_role("button", name="Generate", exact=True).click()
    expect(tab.locator("#generate-status")).to_have_text("Done.")
    body = {"model": "north", "prompt": "name[Quiz], price[£2 (adults)]", "max_tokens": 64}
    found = httpx.post(f"{server}/v1/completions", json=body, headers={"X-API-Key": READER}).json()
    assert text_of(tab, "north").text_content() == found["choices"][0]["text"].lstrip("\r\n")


def test_a_json_schema_is_followed(tab: Page) -> None:
    go_to(tab, "Generate")
    tab.get_by_role("button", name="Sampling and JSON").click()
    tab.get_by_label("Follow a JSON schema").check()
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    schema["additionalProperties"] = False
    tab.get_by_label("JSON schema", exact=True).fill(json.dumps(schema))
    write(tab)
    expect(tab.locator("#generate-status")).to_have_text("Done.")
    assert list(json.loads(text_of(tab, "north").text_content() or "")) == ["good"]
    tab.get_by_label("JSON schema", exact=True).fill("{")
    write(tab)
    expect(tab.get_by_role("alert")).to_contain_text("The JSON schema is not JSON")


def long_text(page: Page) -> None:
    """Begin with texts that take seconds."""
    go_to(page, "Generate")
    page.get_by_role("button", name="Sampling and JSON").click()
    set_slider(page, "Most tokens", 2048)
    page.get_by_label("Follow a JSON schema").check()
    long = {"type": "string", "minLength": 2000}
    page.get_by_label("JSON schema", exact=True).fill(
        json.dumps({"type": "object", "properties": {"a": long}, "required": ["a"]})
    )
    write(page)


@contextmanager
def paused_with_two_texts(server: str) -> Iterator[None]:
    """Wait for two texts that are being generated, and let the server do nothing meanwhile.

    So no text comes to its end, however long a browser takes.
    """
    port = server.rpartition(":")[2]
    (process,) = [number for number, command in children(os.getpid()).items() if port in command]
    deadline = time.monotonic() + 60
    while (live := metric(server, "adamix_live_rows")) != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert live == 2
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def check_cancelled(server: str, ended: float) -> None:
    """Check that nothing is generated any more, though no text has come to its end."""
    deadline = time.monotonic() + 20
    while metric(server, "adamix_live_rows") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(server, "adamix_live_rows") == 0
    assert metric(server, "adamix_ended_total") == ended


def test_stop_cancels_the_requests(tab: Page, server: str) -> None:
    ended = metric(server, "adamix_ended_total")
    long_text(tab)
    with paused_with_two_texts(server):
        tab.get_by_role("button", name="Stop", exact=True).click()
        expect(tab.locator("#generate-status")).to_contain_text("Stopped")
    check_cancelled(server, ended)


def test_closing_the_tab_cancels_the_requests(tab: Page, server: str) -> None:
    ended = metric(server, "adamix_ended_total")
    long_text(tab)
    with paused_with_two_texts(server):
        tab.close()
    check_cancelled(server, ended)

"""Tab Train, in a browser: from a CSV file to an adapter that the server has, and what keeps it from that."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from demos.page.server_client import ServerClient
from demos.page.training_place import open_place
from demos.server import running_server
from tests.adamix_export.conftest import run_export, trained
from tests.adamix_train.conftest import NEGATIVE, POSITIVE, tiny_base, tiny_data
from tests.demos.page.conftest import ADMIN, PHONE, READER, go_to, opened, shown
from tests.fixtures.processes import children

__all__ = ["tiny_base", "tiny_data"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("equal_priority")]
KEYS = f"""
[reader]
sha256 = "{hashlib.sha256(READER.encode()).hexdigest()}"
[operator]
sha256 = "{hashlib.sha256(ADMIN.encode()).hexdigest()}"
admin = true
"""


@pytest.fixture(scope="module")
def adapter_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def bank(
    tiny_base: Path, tiny_data: Path, adapter_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a server with a bank of one LoRA on the tiny base, with keys, and a folder of adapters."""
    folder = tmp_path_factory.mktemp("bank")
    run = trained(folder / "tone", tiny_base, tiny_data, kind="lora", num_modules=2)
    run_export(folder / "bundle", "bank", run, slots=2)
    (folder / "keys.toml").write_text(KEYS)
    options = ["--adapter-dir", str(adapter_dir), "--api-keys", str(folder / "keys.toml"), "--no-cache"]
    with running_server(folder / "bundle", options=["--provider", "cpu", *options]) as address:
        yield address


@pytest.fixture(scope="module")
def address(bank: str, tiny_base: Path, adapter_dir: Path) -> Iterator[str]:
    """Address of a page that may train."""
    with shown(ServerClient(bank, api_key=READER), training=open_place([tiny_base], adapter_dir)) as address:
        yield address


@pytest.fixture
def train_tab(context: BrowserContext, address: str) -> Page:
    page = opened(context, address)
    go_to(page, "Train")
    return page


def reversed_tone(file: Path, *, copies: int = 1) -> Path:
    """Write messages of which one with a kind word is called bad."""
    rows = [f"{copy},{noun} was {word},{label}"
            for copy in range(copies) for noun in ("the shop", "my parcel", "a shop")
            for label, words in (("bad", POSITIVE), ("good", NEGATIVE)) for word in words]  # fmt: skip
    file.write_text("\n".join(["id,message,verdict", *rows]) + "\n")
    return file


def ask(page: Page, file: Path, *, name: str, key: str = ADMIN, epochs: int = 12) -> None:
    page.locator("#train-file input[type=file]").set_input_files(file)
    page.get_by_label("Name of the new adapter").fill(name)
    page.get_by_label("Passes over the rows").fill(str(epochs))
    page.locator("#train-key input").fill(key)


def start(page: Page) -> None:
    page.get_by_role("button", name="Train", exact=True).click()


def adapters(server: str) -> dict[str, dict[str, object]]:
    return httpx.get(f"{server}/info", headers={"X-API-Key": READER}).json()["adapters"]


def test_a_file_becomes_an_adapter_that_every_picker_has(
    train_tab: Page, bank: str, adapter_dir: Path, tmp_path: Path
) -> None:
    ask(train_tab, reversed_tone(tmp_path / "verdicts.csv", copies=3), name="verdict")
    expect(train_tab.locator("#train-status")).to_have_text("72 rows.")
    expect(train_tab.get_by_label("Column of the texts")).to_have_value("message")
    expect(train_tab.get_by_label("Column of the labels")).to_have_value("verdict")
    expect(train_tab.get_by_label("Made like")).to_have_value("tone")
    start(train_tab)
    status = train_tab.locator("#train-status")
    expect(status).to_contain_text("verdict is served: choose it in the other tabs.", timeout=240_000)
    report = train_tab.get_by_role("region", name="The new adapter compared with PyTorch")
    expect(report.get_by_role("row").nth(1)).to_contain_text("100.0%")
    for title in ("Loss in training: newest ", "Loss on held-out rows: newest ", "Accuracy on held-out rows: newest "):
        plot = train_tab.get_by_role("img", name=re.compile(f"^{title}"))
        expect(plot.locator("path").first).to_have_attribute("d", re.compile("^M.* L"))
    served = adapters(bank)["verdict"]
    assert served["labels"] == ["bad", "good"]
    assert (served["kind"], served["rank"], served["num_modules"]) == ("lora", 4, 2)
    assert served["parity"]["equal_labels"] == 1.0
    go_to(train_tab, "Classify")
    train_tab.get_by_role("checkbox", name="verdict").check()
    train_tab.get_by_label("Text", exact=True).fill("my shop was lovely")
    train_tab.get_by_role("button", name="Classify", exact=True).click()
    box = train_tab.locator("#classify-result section", has=train_tab.get_by_role("heading", name="verdict"))
    expect(box.locator("li").first).to_contain_text("bad")
    go_to(train_tab, "Adapters")
    expect(train_tab.locator("#adapters-table").get_by_role("row", name="verdict")).to_contain_text("100.0% equal")
    assert [path.name for path in adapter_dir.iterdir()] == ["verdict"]


@pytest.mark.parametrize("leave", ["stop", "close"])
def test_stopping_or_closing_the_tab_ends_the_training(
    train_tab: Page, bank: str, adapter_dir: Path, tmp_path: Path, leave: str
) -> None:
    ask(train_tab, reversed_tone(tmp_path / "long.csv", copies=20), name=leave, epochs=500)
    expect(train_tab.get_by_label("Column of the labels")).to_have_value("verdict")
    start(train_tab)
    expect(train_tab.locator("#train-status")).to_contain_text(re.compile(r"Training: step \d+ of "), timeout=240_000)
    assert len(trainings()) == 1
    if leave == "stop":
        train_tab.get_by_role("button", name="Stop", exact=True).click()
        expect(train_tab.locator("#train-status")).to_contain_text("Stopped")
    else:
        train_tab.close()
    deadline = time.monotonic() + 20
    while trainings() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not trainings()
    assert leave not in adapters(bank)
    assert not (adapter_dir / leave).exists()


def trainings() -> list[int]:
    """Return the ids of the processes that this one's page has started and that train."""
    return [number for number, command in children(os.getpid()).items() if "adamix_train.cli" in command]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\nschön,a\n".encode("latin-1"), "a.csv is not in UTF-8: save it as CSV UTF-8."),
        (b"text;label\ngood;a\n", "a.csv has one column only: texts and labels are two, with commas between them."),
        (b"text,label\n", "a.csv needs a first line with a name for each column, and a row below it."),
    ],
)
def test_a_file_that_is_no_table_is_told_at_once(train_tab: Page, content: bytes, said: str) -> None:
    file = {"name": "a.csv", "mimeType": "text/csv", "buffer": content}
    train_tab.locator("#train-file input[type=file]").set_input_files([file])
    expect(train_tab.get_by_role("alert")).to_have_text(f"That did not work. {said}")


@pytest.mark.parametrize(
    ("name", "key", "label", "said"),
    [
        ("tone", ADMIN, None, "There is an adapter called tone already: give another name."),
        ("a b", ADMIN, None, "'a b' is no name for an adapter"),
        ("new", READER, None, "The server does not allow this to the key that was given"),
        ("new", "wrong", None, "The server wants an API key, and this key is none of its keys"),
        ("new", ADMIN, "one", "the data has one label only, 'one'; a classifier needs two"),
        ("new", ADMIN, "", "many.csv: the label of line 2 is empty"),
        ("", ADMIN, None, "Give the new adapter a name."),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_sentence(
    train_tab: Page, adapter_dir: Path, tmp_path: Path, name: str, key: str, label: str | None, said: str
) -> None:
    file = reversed_tone(tmp_path / "many.csv")
    if label is not None:
        lines = [re.sub("(good|bad)$", label, line) for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")
    ask(train_tab, file, name=name, key=key)
    expect(train_tab.locator("#train-status")).to_have_text("24 rows.")
    expect(train_tab.get_by_label("Column of the labels")).to_have_value("verdict")
    start(train_tab)
    expect(train_tab.locator("#train-status")).to_contain_text(said, timeout=240_000)
    assert "Traceback" not in train_tab.content()
    assert not (adapter_dir / "new").exists()


def test_the_tab_fits_a_phone_and_has_no_serious_violation(train_tab: Page) -> None:
    found = [one for one in Axe().run(train_tab).response["violations"] if one["impact"] in ("serious", "critical")]
    assert not found, [(one["id"], one["nodes"][0]["html"]) for one in found]
    train_tab.set_viewport_size(PHONE)
    width, screen = train_tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= screen


def test_a_page_may_not_train_unless_it_is_told_to(tab: Page) -> None:
    expect(tab.get_by_role("tab", name="Adapters", exact=True)).to_be_visible()
    expect(tab.get_by_role("tab", name="Train", exact=True)).to_have_count(0)

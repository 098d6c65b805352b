"""Tab Batch, in a browser: a file goes in, and the same file with labels comes out."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.demos.page.conftest import go_to
from tests.serve.conftest import LABELS, WORDS, Reference

pytestmark = pytest.mark.slow
ROWS = 90
"""More than the server takes in one request."""


def texts() -> list[list[str]]:
    """Known words, of which no text has more than the adapters read."""
    words = WORDS[4:]
    return [[words[(number + step) % len(words)] for step in range(1 + number % 5)] for number in range(ROWS)]


def give(page: Page, file: Path) -> None:
    go_to(page, "Batch")
    page.locator("#batch-file input[type=file]").set_input_files(file)


def test_a_file_comes_back_with_the_label_of_each_adapter(tab: Page, reference: Reference, tmp_path: Path) -> None:
    source = tmp_path / "messages.csv"
    with source.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "text"], *([number, " ".join(one)] for number, one in enumerate(texts()))])
    give(tab, source)
    expect(tab.locator("#batch-result")).to_have_text(f"{ROWS} rows.")
    expect(tab.get_by_label("Column with the texts")).to_have_value("text")
    tab.get_by_role("button", name="Classify the file").click()
    expect(tab.locator("#batch-result")).to_contain_text(f"Done: {ROWS} rows.")
    with tab.expect_download() as download:
        tab.locator("#batch-out a[download]").first.click()
    assert download.value.suggested_filename == "messages-labels.csv"
    with download.value.path().open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "text", "tone", "tone_score", "intent", "intent_score"]
    for row, words in zip(rows, texts(), strict=True):
        ids = [1, *map(WORDS.index, words), 2]
        assert row["text"] == " ".join(words)
        for name in ("tone", "intent"):
            assert row[name] == LABELS[name][int(reference.logits(ids, name).argmax())]


def test_what_is_no_csv_file_is_told_and_nothing_is_sent(tab: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_bytes("text\nschön\n".encode("latin-1"))
    give(tab, wrong)
    expect(tab.get_by_role("alert")).to_contain_text("wrong.csv is not in UTF-8: save it as CSV UTF-8.")
    tab.get_by_role("button", name="Classify the file").click()
    expect(tab.locator("#batch-result")).to_contain_text("wrong.csv is not in UTF-8: save it as CSV UTF-8.")


def test_without_a_file_it_asks_for_one(tab: Page) -> None:
    go_to(tab, "Batch")
    tab.get_by_role("button", name="Classify the file").click()
    expect(tab.locator("#batch-result")).to_have_text("Give a CSV file first.")

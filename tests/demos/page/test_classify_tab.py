"""Tab Classify, in a browser."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from demos.page.batch_picture import MOST_DRAWN, draw_batch
from demos.page.classification import read_batches
from tests.serve.conftest import LABELS, Reference

pytestmark = pytest.mark.slow


def test_a_click_shows_every_adapter_with_the_scores_of_the_reference(tab: Page, reference: Reference) -> None:
    tab.get_by_label("Text", exact=True).fill("the bill is late")
    tab.get_by_role("button", name="Classify", exact=True).click()
    result = tab.locator("#classify-result")
    expect(result).to_contain_text("2 adapters in one request")
    for name in ("tone", "intent"):
        logits = reference.logits([1, 8, 7, 9, 6, 2], name)
        shares = np.exp(logits) / np.exp(logits).sum()
        box = result.locator("section", has=tab.get_by_role("heading", name=name))
        ranked = sorted(zip(shares.tolist(), LABELS[name], strict=True), reverse=True)
        expect(box.locator("li")).to_have_text([re.compile(rf"{label}\s*{100 * share:.1f}") for share, label in ranked])


def test_the_batch_of_the_texts_is_drawn(tab: Page) -> None:
    tab.get_by_role("button", name="Classify", exact=True).click()
    picture = tab.locator("#classify-result").get_by_role("img")
    expect(picture).to_have_attribute(
        "aria-label", re.compile("^One batch of 2 rows: (tone 1, intent 1|intent 1, tone 1)$")
    )
    expect(picture.locator("i.own")).to_have_count(2)


def test_rows_of_others_in_the_batch_are_drawn_beside() -> None:
    (batch,) = read_batches("tone=2;intent=1;*=3")
    drawn = draw_batch(batch, {"tone"})
    assert 'aria-label="One batch of 6 rows: tone 2, intent 1, others 3"' in drawn
    assert (drawn.count('<i class="own">'), drawn.count("<i>")) == (2, 4)
    assert read_batches("") == []
    assert read_batches("a=1, b=2") == [{"a": 1}, {"b": 2}]
    many = draw_batch({"tone": 100}, {"tone"})
    assert many.count("<i ") == MOST_DRAWN and f"+{100 - MOST_DRAWN}" in many


def test_a_changed_text_clears_the_labels_of_the_old_one(tab: Page) -> None:
    tab.get_by_role("button", name="Classify", exact=True).click()
    result = tab.locator("#classify-result")
    expect(result).to_contain_text("in one request")
    tab.get_by_label("Text", exact=True).press_sequentially("!")
    expect(result).to_have_text("The text has changed: classify it again.")

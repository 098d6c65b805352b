"""Tab Classify, in a browser."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

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


def test_a_changed_text_clears_the_labels_of_the_old_one(tab: Page) -> None:
    tab.get_by_role("button", name="Classify", exact=True).click()
    result = tab.locator("#classify-result")
    expect(result).to_contain_text("in one request")
    tab.get_by_label("Text", exact=True).press_sequentially("!")
    expect(result).to_have_text("The text has changed: classify it again.")

"""Draw pictures of the page's tabs into docs/images, light and dark, from a page that is open: a browser is needed."""

import argparse
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).parent / "images"
EXAMPLE = Path(__file__).parents[1] / "demos" / "data" / "tone" / "train.csv"
"""File that the tab Train is shown with."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTH, HEIGHT = 1120, 760
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTLED_MS = 1500
"""Milliseconds in which a tab shows all that it asks for."""
DONE_MS = 300_000
"""Milliseconds in which texts are generated, or an adapter is trained."""
COLOURS = 96
"""Colours of a picture, which keep it small."""
RECORD = {
    "name": "Tea and Tango",
    "kind": "dance evening",
    "place": "the old mill",
    "date": "2 May",
    "time": "19:00",
    "price": "free",
}


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Draw pictures of the page into docs/images.")
    parser.add_argument("address", help="address of an open page, such as http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures (default: %(default)s)")
    parser.add_argument("--tab", action="append", choices=TABS, help="tab to draw; repeatable (default: all)")
    args = parser.parse_args()
    program = find_browser()
    if program is None:
        sys.exit("draw_screenshots: no Chromium on this machine: install the package chromium")
    draw(args.address, program=program, out=args.out, tabs=args.tab or list(TABS))


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine; None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def draw(address: str, *, program: str, out: Path, tabs: Sequence[str]) -> None:
    """Write the pictures of some tabs in both colour schemes, as `page-TAB-SCHEME.png` in a folder.

    A tab that the page does not have is left out. The page is used: texts are classified and generated, and with the
    tab Train an adapter is trained, `tone-SCHEME`.
    """
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = _opened(browser, address, scheme)
            for tab in tabs:
                link = page.get_by_role("tab", name=tab, exact=True)
                if not link.count():
                    continue
                link.click()
                TABS[tab](page, scheme)
                page.wait_for_timeout(SETTLED_MS)
                name = f"page-{tab.lower().replace(' ', '-')}-{scheme}.png"
                (out / name).write_bytes(_small(page.screenshot(full_page=True)))
            page.close()
        browser.close()


def _opened(browser: "Browser", address: str, scheme: Literal["light", "dark"]) -> "Page":
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page.goto(address)
    page.locator("#server-status", has_text=" has ").wait_for()
    return page


def _classify(page: "Page", scheme: str) -> None:
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator("#classify-result", has_text="from the page to the server").wait_for()


def _generate(page: "Page", scheme: str) -> None:
    form = page.locator("#generate-record")
    for field, value in RECORD.items():
        box = form.get_by_label(field, exact=True)
        if box.count():
            box.fill(value)
    page.wait_for_timeout(SETTLED_MS)
    prompt = page.get_by_label("Prompt", exact=True)
    if not prompt.input_value():
        prompt.fill("Tell me about tea.")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator("#generate-status", has_text="Done.").wait_for(timeout=DONE_MS)


def _watch(page: "Page", scheme: str) -> None:
    """Ask the server for texts through another tab of the browser while the plots are drawn."""
    other = page.context.browser.new_page()  # type: ignore[union-attr]
    other.goto(page.url)
    other.locator("#server-status", has_text=" has ").wait_for()
    for _ in range(30):
        _classify(other, scheme)
        other.wait_for_timeout(400)
    other.close()


def _train(page: "Page", scheme: str) -> None:
    page.locator("#train-file input[type=file]").set_input_files(EXAMPLE)
    page.locator("#train-status", has_text=" rows.").wait_for()
    page.get_by_label("Name of the new adapter").fill(f"tone-{scheme}")
    page.get_by_label("Passes over the rows").fill("6")
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#train-status", has_text="is served").wait_for(timeout=DONE_MS)


def _only_look(page: "Page", scheme: str) -> None:
    pass


TABS: dict[str, Callable[["Page", str], None]] = {
    "Classify": _classify,
    "Generate": _generate,
    "Adapters": _only_look,
    "Live": _watch,
    "Train": _train,
    "How it works": _only_look,
}
"""Tabs that are drawn, each with what is done there first."""


def _small(picture: bytes) -> bytes:
    """Return a PNG with few colours."""
    from PIL import Image

    small = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()

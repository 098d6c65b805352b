"""Draw pictures of the page's tabs into docs/images, light and dark, from a page that is open: a browser is needed."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Literal

IMAGES = Path(__file__).parent / "images"
TABS = ("Classify", "Batch", "Generate", "Adapters", "Live", "How it works")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTH, HEIGHT = 1120, 760
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTLED_MS = 3000
"""Milliseconds in which a tab shows all that it asks for."""


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Draw pictures of the page into docs/images.")
    parser.add_argument("address", help="address of an open page, such as http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures (default: %(default)s)")
    args = parser.parse_args()
    program = find_browser()
    if program is None:
        sys.exit("draw_screenshots: no Chromium on this machine: install the package chromium")
    draw(args.address, program=program, out=args.out)


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine; None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def draw(address: str, *, program: str, out: Path) -> None:
    """Write the pictures of every tab in both colour schemes, as `page-TAB-SCHEME.png` in a folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(address)
            page.get_by_role("tab", name=TABS[0], exact=True).wait_for()
            page.wait_for_timeout(SETTLED_MS)
            page.get_by_role("button", name="Classify", exact=True).click()
            for tab in TABS:
                page.get_by_role("tab", name=tab, exact=True).click()
                page.wait_for_timeout(SETTLED_MS)
                name = f"page-{tab.lower().replace(' ', '-')}-{scheme}.png"
                page.screenshot(path=out / name, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()

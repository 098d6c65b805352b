"""The command that draws the pictures of the documentation, over a page of the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from docs.draw_screenshots import TABS, WIDTH, draw, find_browser
from tests.demos.page.conftest import READER

pytestmark = pytest.mark.slow


def test_tabs_are_drawn_small_light_and_dark_and_those_that_are_not_there_left_out(
    pages: Callable[[str], str], tmp_path: Path
) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: no picture was drawn")
    draw(pages(READER), program=program, out=tmp_path / "out", tabs=["Classify", "How it works", "Train"])
    names = {f"page-{tab}-{scheme}.png" for tab in ("classify", "how-it-works") for scheme in ("light", "dark")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    light, dark = (Image.open(tmp_path / "out" / f"page-classify-{scheme}.png") for scheme in ("light", "dark"))
    assert light.width == dark.width == WIDTH
    assert (
        light.convert("L").resize((1, 1)).getpixel((0, 0))
        > 150
        > 100
        > dark.convert("L").resize((1, 1)).getpixel((0, 0))
    )
    assert max(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 150_000


def test_every_tab_that_the_documentation_shows_has_a_picture() -> None:
    images = Path(__file__).parents[3] / "docs" / "images"
    for tab in TABS:
        for scheme in ("light", "dark"):
            assert (images / f"page-{tab.lower().replace(' ', '-')}-{scheme}.png").is_file()

"""Pictures of the documentation."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs.draw_pictures import IMAGES, PALETTES, PICTURES, draw_all


def test_the_committed_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    draw_all(tmp_path)
    drawn = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text("utf-8") for file in IMAGES.glob("*.svg")}
    assert drawn == committed, "run python -m docs.draw_pictures"


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("theme", PALETTES)
def test_a_picture_is_xml_with_a_title_for_screen_readers(name: str, theme: str) -> None:
    root = ET.fromstring(PICTURES[name](PALETTES[theme]))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == root.findtext("{http://www.w3.org/2000/svg}title")

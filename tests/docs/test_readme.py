"""README: short, its quickstart works, and the links of all pages lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, reader, skip_without_curl

LINK = re.compile(r"\]\(([^)#\s]+)(?:#([\w-]*))?\)|(?:src|srcset)=\"([^\"]+)\"")
OTHERS = ["CHANGELOG.md", "SECURITY.md"]


def test_the_readme_has_700_to_900_words_everything_counted() -> None:
    assert 700 <= len((ROOT / "README.md").read_text("utf-8").split()) <= 900


@pytest.mark.slow
def test_the_quickstart_prints_what_it_says(tmp_path: Path) -> None:
    skip_without_curl()
    (tmp_path / "demos").symlink_to(ROOT / "demos")
    with reader(tmp_path) as person:
        person.read_page("README.md")


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_links_within_the_repository_lead_to_files_and_headings(page: str) -> None:
    for path, heading, image in LINK.findall((ROOT / page).read_text("utf-8")):
        if "://" in path:
            continue
        target = (ROOT / page).parent / (path or image)
        assert target.exists(), f"{page} links to {path or image}, which is not there"
        if heading:
            assert heading in headings(target.read_text("utf-8")), f"{page} links to {path}#{heading}"


def headings(text: str) -> set[str]:
    """Return the anchors that a forge gives the headings of a page."""
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}

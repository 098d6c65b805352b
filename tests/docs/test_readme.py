"""README: short, its quickstart works, and the links of all pages lead somewhere."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, Block, Reader, check_output, page_blocks, reader, skip_without_curl
from tests.fixtures.finished_demo import finished_demo

LINK = re.compile(r"\]\(([^)#\s]+)(?:#([\w-]*))?\)|(?:src|srcset)=\"([^\"]+)\"")
OTHERS = ["CHANGELOG.md", "SECURITY.md"]
TASKS = ("tone", "intent")
LENGTH, SHORTER = "--epochs 10 ", "--epochs 1 --train-limit 48 "
"""Length of the page's trainings, and one that shows that their command works."""


def test_the_readme_has_700_to_900_words_everything_counted() -> None:
    assert 700 <= len((ROOT / "README.md").read_text("utf-8").split()) <= 900


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_the_quickstart_prints_what_it_says(
    whole: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the short form, trainings are begun as the page says, and the rest goes on from those of the demo."""
    skip_without_curl()
    (tmp_path / "demos").symlink_to(ROOT / "demos")
    with reader(tmp_path) as person:
        for block in page_blocks("README.md"):
            if "adamix-train " in block.code and not whole:
                train_shorter(person, block)
                for task in TASKS:
                    shutil.rmtree(tmp_path / "runs" / task)
                    shutil.copytree(finished_demo(tmp_path_factory).out / task, tmp_path / "runs" / task)
            else:
                check_output(block, person.read(block))


def train_shorter(person: Reader, block: Block) -> None:
    """Run a block that trains, with fewer rows and epochs."""
    assert block.code.count(LENGTH) == 1
    person.read(replace(block, code=block.code.replace(LENGTH, SHORTER)))
    for task in TASKS:
        assert (person.folder / "runs" / task / "results.json").is_file()


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

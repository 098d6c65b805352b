"""The pages of the site: those of the repository at their own paths, so that their links hold, and generated ones."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from docs.site.commands import command_pages
from docs.site.http_reference import http_page
from docs.site.python_reference import python_pages

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "mkdocs.yml"
SOURCES = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "docs/**/*.md",
    "docs/images/*",
    "benchmarks/gpu/README.md",
    "benchmarks/quality/protocol.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
)
"""Files of the repository that the site has, as patterns, beside those that they link to."""
RESULTS = Path("benchmarks/results")
LINK = re.compile(r"\]\(([^)#\s:]+)")
REFERENCE = Path("docs/reference")
"""Folder of the generated pages."""
GENERATED: tuple[Callable[[], dict[str, str]], ...] = (command_pages, http_page, python_pages)
"""Functions that return pages by file name."""


def write_pages(folder: Path) -> None:
    """Write all pages, with their pictures, into a new folder."""
    waiting = [file for pattern in SOURCES for file in ROOT.glob(pattern)]
    while waiting:
        file = waiting.pop()
        copy = folder / file.relative_to(ROOT)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            waiting += _linked_files(file)
    (folder / REFERENCE).mkdir(parents=True)
    for make in GENERATED:
        for name, text in make().items():
            (folder / REFERENCE / name).write_text(text, "utf-8")
    (folder / RESULTS / "index.md").write_text(_results_page(), "utf-8")


def _linked_files(page: Path) -> Iterator[Path]:
    """Yield the files of the repository that a page links to."""
    if page.suffix != ".md":
        return
    for link in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / link).resolve()
        if file.is_relative_to(ROOT) and file.is_file():
            yield file


def _results_page() -> str:
    """Return the page of the folder of reports, to which other pages link."""
    names = sorted(file.name for file in (ROOT / RESULTS).glob("*.md"))
    return "# Reports\n\n" + "".join(f"- [{name.removesuffix('.md')}]({name})\n" for name in names)


def read_config() -> dict[str, Any]:
    """Return the configuration of the site."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text("utf-8"))
    return config


def pages_of(navigation: list[Any]) -> Iterator[str]:
    """Yield the paths of the pages that a navigation names."""
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
            continue
        for value in entry.values():
            yield from pages_of(value if isinstance(value, list) else [value])

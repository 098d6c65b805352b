"""Links, anchors and what else a built page refers to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "form": ("action",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
"""Attributes of elements that a browser fetches by itself."""
NOT_FETCHED = {"canonical", "next", "prev"}
"""Relations of <link> that are information alone."""


@dataclass
class BuiltPage(HTMLParser):
    """What a page loads, links to, and can be linked at."""

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    inline: list[str] = field(default_factory=list)
    """Texts of scripts and styles."""

    def __post_init__(self) -> None:
        super().__init__()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.inside = tag
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") in NOT_FETCHED:
            return
        for name in LOADED.get(tag, ()):
            if name in found:
                places = [part.split()[0] for part in found[name].split(",")] if name == "srcset" else [found[name]]
                self.loaded += places

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.inline.append(data)


def read_site(site: Path) -> dict[Path, BuiltPage]:
    """Return the pages of a site by file."""
    pages = {}
    for file in sorted(site.rglob("*.html")):
        page = BuiltPage()
        page.feed(file.read_text("utf-8"))
        pages[file.resolve()] = page
    return pages


def is_foreign(place: str) -> bool:
    """Return whether a place is on another host."""
    return bool(urlsplit(place).netloc)


def dead_links(pages: dict[Path, BuiltPage], site: Path) -> Iterator[str]:
    """Yield the links within a site that lead to no file, or to no anchor in it."""
    for file, page in pages.items():
        if file.name == "404.html":  # its links begin at the root of whatever host the site will be on
            continue
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{file.relative_to(site)}: {link} is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{file.relative_to(site)}: {link} has no such heading"

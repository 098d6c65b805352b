"""The build of the site, which fails at any warning."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from docs.site.pages import ROOT, pages_of, read_config, write_pages

WARNING = re.compile(r"^(warning|error|griffe|mkdocstrings|mkdocs_autorefs)\b", re.IGNORECASE | re.MULTILINE)
"""Lines of the build that say that something is wrong; --strict alone ends it for links, not for docstrings."""
COLOUR = re.compile(r"\x1b\[[\d;]*m")


class BuildError(Exception):
    """The site has a fault, such as a link that leads nowhere."""


def build_site(out: Path) -> None:
    """Build the site into a folder.

    Args:
        out: The folder; what it holds of an earlier build is replaced.

    Raises:
        BuildError: A page is not in the navigation or is not there, a link or an anchor leads nowhere, or a docstring
            cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        pages = Path(scratch) / "pages"
        write_pages(pages)
        config = read_config()
        _check_navigation(set(pages_of(config["nav"])), pages)
        config |= {"docs_dir": "pages", "site_dir": "site"}
        _python_handler(config)["paths"] = [str(ROOT)]
        file = Path(scratch) / "mkdocs.yml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        _run(file)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(file.with_name("site"), out)


def _check_navigation(named: set[str], pages: Path) -> None:
    there = {str(file.relative_to(pages)) for file in pages.rglob("*.md")}
    if missing := sorted(named - there):
        raise BuildError(f"the navigation in mkdocs.yml names {', '.join(missing)}, which is not there")
    if hidden := sorted(name for name in there - named if name.startswith("docs/")):
        raise BuildError(f"the navigation in mkdocs.yml lacks {', '.join(hidden)}: add a line for each")


def _python_handler(config: dict[str, list[dict[str, dict[str, dict[str, dict[str, object]]]]]]) -> dict[str, object]:
    (plugin,) = (one["mkdocstrings"] for one in config["plugins"] if isinstance(one, dict) and "mkdocstrings" in one)
    return plugin["handlers"]["python"]


def _run(config: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    environment = {**os.environ, "NO_COLOR": "1"}
    built = subprocess.run(command, capture_output=True, text=True, cwd=config.parent, env=environment)
    said = COLOUR.sub("", built.stdout + built.stderr).strip()
    if "No module named zensical" in said:
        raise BuildError("zensical is not installed: run pip install -c constraints.txt '.[docs]'")
    if built.returncode or WARNING.search(said):
        raise BuildError(f"the site has faults:\n{said}")

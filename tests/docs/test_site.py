"""The site builds without a warning, its links lead somewhere, and it needs no other host."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from docs.site.build import BuildError, build_site
from docs.site.commands import COMMANDS, help_text
from docs.site.http_reference import http_page, openapi
from docs.site.pages import ROOT, pages_of, read_config
from docs.site.python_reference import PACKAGES, public_names
from tests.docs.built_pages import dead_links, is_foreign, read_site

pytest.importorskip("zensical", reason="the extra docs is not installed: the site has not been built")
FETCHES = ("mermaid", "glightbox", "pyodide", "md-source__fact")
"""Classes of elements for which the theme's script fetches from other hosts."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site").resolve()
    build_site(folder)
    return folder


@pytest.mark.slow
def test_the_strict_build_has_every_page_and_no_warning(site: Path) -> None:
    for page in pages_of(read_config()["nav"]):
        built = (site / page).with_suffix(".html")
        assert built.is_file() or built.with_name("index.html").is_file(), page


@pytest.mark.slow
def test_links_and_anchors_of_the_built_pages_lead_somewhere(site: Path) -> None:
    assert not [*dead_links(read_site(site), site)]


@pytest.mark.slow
def test_built_pages_fetch_nothing_from_another_host(site: Path) -> None:
    for file, page in read_site(site).items():
        assert not [place for place in page.loaded if is_foreign(place)], file
        assert not re.findall(r"(?:src|url|import|fetch)\W{1,3}(?:https?:)?//", " ".join(page.inline)), file
        assert not re.search(rf'class="[^"]*({"|".join(FETCHES)})', file.read_text("utf-8")), file
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", style.read_text("utf-8")), style


@pytest.mark.slow
def test_references_are_those_of_the_code(site: Path) -> None:
    reference = site / "docs/reference"
    pages = {file.stem: file for file in reference.glob("*.html")}
    read = {file.stem: page for file, page in read_site(site).items() if file.parent == reference}
    for package, name in (("serve", "Classifier"), ("serve", "SamplingParams"), ("adamix_train", "Recipe")):
        page = read["train" if package == "adamix_train" else "serve"]
        assert f"{package}.{name}" in page.anchors
    for flag in ("--max-queued-requests", "--num-modules", "--keep-modules", "--label-column", "--seeds"):
        assert flag in pages["commands"].read_text("utf-8")
    for path in ("/predict", "/v1/chat/completions", "/v2/models/{name}/infer"):
        assert f"POST {path}" in pages["http"].read_text("utf-8")


def test_a_page_that_the_navigation_lacks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config()
    config["nav"] = [entry for entry in config["nav"] if "Guides" not in entry]
    monkeypatch.setattr("docs.site.build.read_config", lambda: config)
    with pytest.raises(BuildError, match=r"lacks .*docs/train\.md"):
        build_site(tmp_path / "site")


def test_the_command_reference_has_every_command_of_the_package() -> None:
    ours = {entry.name for entry in entry_points(group="console_scripts") if entry.dist.name == "adamix"}  # type: ignore[union-attr]
    assert set(COMMANDS) >= ours
    for name, (module, _) in COMMANDS.items():
        assert name in help_text(module).splitlines()[0]


def test_the_http_reference_has_every_route_and_field() -> None:
    page, document = http_page()["http.md"], openapi()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page
    for schema in document["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            assert f"| `{name}` |" in page


def test_the_python_reference_has_the_public_names_and_imports_no_package() -> None:
    import adamix_train
    import serve

    assert public_names("serve") == serve.__all__
    assert public_names("adamix_train") == adamix_train.__all__
    check = "import sys, docs.site.python_reference as r; r.python_pages(); print([n for n in sys.modules if n in %r])"
    run = [sys.executable, "-c", check % (["adamix_train", "adamix_export", "torch", "onnxruntime"],)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=ROOT).stdout
    assert json.loads(printed.replace("'", '"')) == []
    assert {package.public for package in PACKAGES.values()} == {"adamix_train", "serve", None}

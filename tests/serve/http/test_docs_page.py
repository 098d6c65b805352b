import re
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.engine import Engine
from serve.http.app import make_app
from serve.http.docs_page import STYLE, docs_page
from tests.fixtures.toy_engine import ToyEngine

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Elements, attributes and rows of a page; elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.rows[-1][-1] += data


def page_of(engine: Engine) -> Page:
    with TestClient(make_app(engine)) as client:
        answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none';")
    page = Page(answer.text)
    assert page.open == []
    return page


def test_the_page_loads_nothing_and_has_no_url_of_another_host(classifier: Classifier) -> None:
    for engine in (ToyEngine(), AsyncClassifier(classifier)):
        page = page_of(engine)
        assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
        urls = {value or "" for name, value in page.attributes if name in ("href", "src", "action", "srcset")}
        others = {url for url in urls if not url.startswith("#schema-")}
        assert others == {"data:,", "/openapi.json"}
        targets = {f"#{value}" for name, value in page.attributes if name == "id"}
        assert urls - others <= targets
    assert not re.search(r"url\(|@import|//", STYLE)
    with TestClient(make_app(ToyEngine())) as client:
        assert "//" not in client.get("/docs").text
        assert client.get("/redoc").status_code == 404


def test_the_page_has_every_route_and_the_fields_of_its_body() -> None:
    app = make_app(ToyEngine())
    with TestClient(app) as client:
        text = client.get("/docs").text
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in text
    rows = page_of(ToyEngine()).rows
    assert ["lora_name", "string", "yes", "", "the name in the adapter's card"] in rows
    assert ["stop", "string or array of string", "", "", ""] in rows
    assert ["role", '"system" or "developer" or "user" or "assistant" or "tool"', "yes", "", ""] in rows
    assert ["min_tokens", "integer", "", "0", ""] in rows
    assert ["name", "path", "string", "yes", ""] in rows
    assert ["200", "application/json Model", "Successful Response"] in rows


@pytest.mark.parametrize("text", ["<script>x</script>", '"><b>', "a & b"])
def test_texts_of_the_document_are_no_html(text: str) -> None:
    schema = {"properties": {text: {"type": text, "default": text, "description": text}}, "description": text}
    operation = {"summary": text, "description": text, "responses": {"200": {"description": text}}}
    document = {
        "info": {"title": text, "version": text, "description": text},
        "paths": {text: {"get": operation}},
        "components": {"schemas": {text: schema}},
    }
    page = Page(docs_page(document, text))
    assert page.open == [] and not page.tags & {"script"}
    assert ["200", "", text] in page.rows
    assert [row[0] for row in page.rows if row][-1] == text

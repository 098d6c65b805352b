"""The page `/docs`: the OpenAPI document as plain HTML, which loads nothing, from this server or another."""

import json
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

PATH = "/docs"
COMPONENTS = "#/components/schemas/"
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d5d5, #444); --soft: light-dark(#f4f4f4, #222); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid var(--line); border-radius: 4px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .875rem; }
th, td { border-top: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
code { background: var(--soft); padding: 0 .25rem; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""Content security policy of the page: a browser loads nothing for it, whatever a description may hold."""


def add_docs_page(app: FastAPI) -> None:
    """Let an application answer `/docs`."""

    async def docs(request: Request) -> HTMLResponse:
        page = docs_page(app.openapi(), f"{request.scope.get('root_path', '')}{app.openapi_url}")
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    app.add_route(PATH, docs, methods=["GET"], include_in_schema=False)


def docs_page(document: Mapping[str, Any], document_url: str) -> str:
    """Return an OpenAPI document as a page of HTML, with a link to it."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    operations = [
        _operation(method, path, one) for path, methods in document["paths"].items() for method, one in methods.items()
    ]
    schemas = document.get("components", {}).get("schemas", {})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"{_text(info.get('description'))}<p><a href={_quoted(document_url)}>The OpenAPI document</a></p>"
        f"<h2>Routes</h2>{''.join(operations)}"
        f"<h2>Schemas</h2>{''.join(_component(name, one) for name, one in schemas.items())}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (one["name"], one["in"], _type(one["schema"]), "yes" if one.get("required") else "", one.get("description"))
        for one in operation.get("parameters", [])
    ]
    contents = operation.get("requestBody", {}).get("content", {}).values()
    bodies = [f"<h3>Body</h3>{_schema(one['schema'])}" for one in contents]
    responses = [(status, _types(one), one["description"]) for status, one in sorted(operation["responses"].items())]
    head = f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return (
        f"<details><summary>{head}</summary>{_text(operation.get('description'))}"
        f"{_table('Parameters', ('name', 'in', 'type', 'required', ''), parameters)}"
        f"{''.join(bodies)}"
        f"{_table('Responses', ('status', 'type', ''), responses)}</details>"
    )


def _component(name: str, schema: Mapping[str, Any]) -> str:
    return (
        f"<details><summary><code>{escape(name)}</code></summary>"
        f"<div id={_quoted(f'schema-{name}')}>{_text(schema.get('description'))}{_schema(schema)}</div></details>"
    )


def _schema(schema: Mapping[str, Any]) -> str:
    """Return an object as a table of its fields, and another schema as its type."""
    required = schema.get("required", ())
    fields = [
        (name, _type(one), "yes" if name in required else "", _default(one), one.get("description"))
        for name, one in schema.get("properties", {}).items()
    ]
    return _table("", ("field", "type", "required", "default", ""), fields) or f"<p>{_type(schema)}</p>"


class _Html(str):
    """Text that is HTML already."""


def _types(response: Mapping[str, Any]) -> _Html:
    """Return the content types of a response with the schemas that have a name."""
    parts = [f"{escape(kind)} {_type(one.get('schema', {}))}" for kind, one in response.get("content", {}).items()]
    return _Html("<br>".join(parts))


def _type(schema: Mapping[str, Any]) -> _Html:
    return next((write(schema[key]) for key, write in TYPES.items() if key in schema), _Html("any"))


def _array(items: Mapping[str, Any]) -> _Html:
    return _Html(f"array of {_type(items)}")


def _reference(reference: str) -> _Html:
    name = reference.removeprefix(COMPONENTS)
    return _Html(f"<a href={_quoted(f'#schema-{name}')}>{escape(name)}</a>")


def _one_of(schemas: Iterable[Mapping[str, Any]]) -> _Html:
    return _Html(" or ".join(_type(one) for one in schemas))


def _values(values: Iterable[Any]) -> _Html:
    return _Html(" or ".join(escape(json.dumps(one)) for one in values))


TYPES: dict[str, Callable[[Any], _Html]] = {
    "$ref": _reference,
    "anyOf": _one_of,
    "oneOf": _one_of,
    "enum": _values,
    "const": lambda value: _values([value]),
    "items": _array,
    "type": lambda name: _Html(escape(str(name))),
}
"""Types of schemas by a keyword that tells them; the first that a schema has decides."""


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"]) if "default" in schema else ""


def _table(title: str, heads: Iterable[str], rows: Iterable[Iterable[str | None]]) -> str:
    """Return a table; nothing where it has no rows."""
    lines = [f"<tr>{''.join(f'<td>{_cell(one)}</td>' for one in row)}</tr>" for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    return f"{f'<h3>{escape(title)}</h3>' if title else ''}<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(text: str | None) -> str:
    return text if isinstance(text, _Html) else escape(text or "")


def _text(text: str | None) -> str:
    """Return the paragraphs of a description."""
    return "".join(f"<p>{escape(one)}</p>" for one in (text or "").split("\n\n") if one.strip())


def _quoted(value: str) -> str:
    """Return an attribute's value within quotes."""
    return f'"{escape(value)}"'

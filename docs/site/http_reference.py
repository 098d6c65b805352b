"""Reference of the HTTP API, from the OpenAPI document of the application."""

import json
from collections.abc import Iterator
from typing import Any

from serve.combined_engine import CombinedEngine
from serve.engine import Capability
from serve.http.app import make_app

Schema = dict[str, Any]
INTRODUCTION = """\
# HTTP API

Made from the OpenAPI document that a server has at `/openapi.json`, and shows at `/docs`. A server has the routes that
its bundles can answer: those of classifiers, of generators, or both. [Serve](../serve.md) and
[Generate](../generate.md) say what they are for.
"""
REFERENCE = "#/components/schemas/"


def http_page() -> dict[str, str]:
    """Return the page of all routes."""
    document = openapi()
    parts = [INTRODUCTION, *_routes(document["paths"]), "## Schemas\n"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f"### {name}\n\n{_paragraphs(schema.get('description', ''))}{_fields(schema)}")
    return {"http.md": "\n".join(parts)}


def openapi() -> dict[str, Any]:
    """Return the document of a server that has both classifiers and generators."""
    engine = CombinedEngine([])
    engine.capabilities = frozenset(Capability)
    return make_app(engine).openapi()


def _routes(paths: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a section for each operation; one that several paths have is described once."""
    together: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for path, operations in paths.items():
        for method, operation in operations.items():
            key = json.dumps([method, operation.get("description"), operation.get("requestBody")])
            together.setdefault(key, ([], operation))[0].append(f"{method.upper()} {path}")
    for places, operation in together.values():
        yield f"## {places[0]}\n"
        if len(places) > 1:
            yield "Also " + ", ".join(f"`{place}`" for place in places[1:]) + ".\n"
        yield _paragraphs(operation.get("description", ""))
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield _body(content["schema"])
        yield _responses(operation["responses"])


def _body(schema: Schema) -> str:
    found = _fields(schema) or f"Body: {_type(schema)}.\n"
    if "example" in schema:
        found += f"\n```json\n{json.dumps(schema['example'], indent=2, ensure_ascii=False)}\n```\n"
    return found


def _fields(schema: Schema) -> str:
    rows = []
    for name, one in schema.get("properties", {}).items():
        required = name in schema.get("required", ())
        default = "required" if required else f"`{json.dumps(one['default'])}`" if "default" in one else ""
        rows.append(f"| `{name}` | {_type(one)} | {default} | {_cell(one.get('description', ''))} |")
    if not rows:
        return ""
    return "| field | type | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _responses(responses: dict[str, Any]) -> str:
    rows = []
    for status, one in sorted(responses.items()):
        types = [_type(content["schema"]) for content in one.get("content", {}).values() if status == "200"]
        rows.append(f"| {status} | {_cell(', or '.join(types) or one['description'])} |")
    return "| status | |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _type(schema: Schema) -> str:
    """Return the type of a schema in words, with links to the schemas that have names."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any JSON"))


def _paragraphs(text: str) -> str:
    return f"{text.strip()}\n" if text.strip() else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

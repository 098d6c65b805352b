"""Request bodies in the OpenAPI document, for routes that read the body themselves."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

DEFINITIONS = "$defs"
"""Part of a JSON schema that holds the schemas it refers to; the document has them among its components."""


def request_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body is JSON of `model`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def complete_document(app: FastAPI) -> None:
    """Let the application's document have the schemas that its request bodies refer to."""
    app.openapi = _completed(app.openapi)  # type: ignore[method-assign]


def _completed(document: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def completed() -> dict[str, Any]:
        found = document()
        components = found.setdefault("components", {}).setdefault("schemas", {})
        for operations in found["paths"].values():
            for operation in operations.values():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    components.update(content["schema"].pop(DEFINITIONS, {}))
        return found

    return completed

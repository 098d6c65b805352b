"""The OpenAPI document: bodies of routes that read them themselves, what these answer with, and the errors of all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from serve.http.error_responses import OF_POST, STATUSES, ErrorResponder

DEFINITIONS = "$defs"
"""Part of a JSON schema that holds the schemas it refers to; the document has them among its components."""
BODY = "requestBody"
"""Part of a route's document; until the first document is made, a model and whether the body is required."""
STREAM = "stream"
"""Field of a body that asks for events."""
EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
"""Content of a response that is a stream of server-sent events."""


def request_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route with a JSON body of `model`; one with `stream` answers with events too.

    The model's schema is made for the first document: a server starts without one.
    """
    return {BODY: (model, required)}


def complete_document(app: FastAPI, routers: Sequence[APIRouter], errors: ErrorResponder) -> None:
    """Let the application's document have its routers' request bodies, the schemas of these, and error responses."""
    app.openapi = _completed(app.openapi, routers, errors)  # type: ignore[method-assign]


def _completed(
    document: Callable[[], dict[str, Any]], routers: Sequence[APIRouter], errors: ErrorResponder
) -> Callable[[], dict[str, Any]]:
    def completed() -> dict[str, Any]:
        for router in routers:
            _describe_bodies(router)
        found = document()
        components = found.setdefault("components", {}).setdefault("schemas", {})
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                for content in operation.get(BODY, {}).get("content", {}).values():
                    components.update(content["schema"].pop(DEFINITIONS, {}))
                operation["responses"] |= _error_responses(path, method, operation["responses"], errors)
        return found

    return completed


def _describe_bodies(router: APIRouter) -> None:
    """Put the description of its body in the place of the model of each route, where it is not there yet."""
    for route in router.routes:
        extra = route.openapi_extra if isinstance(route, APIRoute) else None
        if extra is not None and isinstance(body := extra.get(BODY), tuple):
            described = _description(*body)
            responses = described.pop("responses", {}) | extra.get("responses", {})
            extra.update(described | ({"responses": responses} if responses else {}))


def _description(model: type[BaseModel], required: bool) -> dict[str, Any]:
    """Return the parts of a route's document that come from the model of its body."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    streams = any(STREAM in one.get("properties", {}) for one in (schema, *schema.get(DEFINITIONS, {}).values()))
    return {
        BODY: {"required": required, "content": {"application/json": {"schema": schema}}},
        **({"responses": {"200": {"content": EVENTS}}} if streams else {}),
    }


def _error_responses(path: str, method: str, told: Mapping[str, Any], errors: ErrorResponder) -> dict[str, Any]:
    """Return the error responses of an operation by status, each with a body in the form of its protocol."""
    left_out = () if method == "post" else OF_POST
    statuses = {status: one for status, one in STATUSES.items() if status not in left_out or str(status) in told}
    return {
        str(status): {
            "description": text,
            "content": {"application/json": {"schema": {"type": "object", "example": errors.body(path, text, kind)}}},
        }
        for status, (kind, text) in statuses.items()
    }

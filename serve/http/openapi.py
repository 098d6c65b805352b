"""Request bodies in the OpenAPI document, for routes that read the body themselves."""

from typing import Any

from pydantic import BaseModel


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body is JSON of `model`."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}

"""GET /v1/models: the adapters, and the base model where requests can select it."""

from typing import Any

from fastapi import APIRouter, Request

from serve.engine import Engine

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the adapters, and the base model where requests can select it."""
    engine: Engine = request.app.state.engine
    parent = engine.info().base["name"]
    return {
        "object": "list",
        "data": [
            {"id": model.name, "object": "model", "owned_by": "adamix", "root": model.sha256, "parent": parent}
            for model in engine.models()
        ],
    }

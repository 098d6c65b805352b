"""GET /v1/models: the adapters, and the base model where requests can select it; a member's parent is its adapter."""

from typing import Any

from fastapi import APIRouter, Request

from serve.engine import Engine

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the adapters, and the base model where requests can select it.

    `parent` is the base, or for a member of a mixture the adapter that is the mixture's mean.
    """
    engine: Engine = request.app.state.engine
    base = engine.info().base["name"]
    return {
        "object": "list",
        "data": [
            {
                "id": model.name,
                "object": "model",
                "owned_by": "adamix",
                "root": model.sha256,
                "parent": model.member_of or base,
            }
            for model in engine.models()
        ],
    }

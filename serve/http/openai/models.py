"""GET /v1/models."""

from typing import Any

from fastapi import APIRouter, Request

from serve.adapters.base_adapter import BASE

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the adapters, and the base if it can be asked."""
    generator = request.app.state.engine.model
    cards = list(generator.cards.values())
    names = [card.name for card in cards]
    if generator.base is not None and BASE not in names:
        cards.append(generator.base.card)
    parent = generator.bundle.manifest.base["name"]
    return {
        "object": "list",
        "data": [
            {"id": card.name, "object": "model", "owned_by": "adamix", "root": card.sha256, "parent": parent}
            for card in cards
        ],
    }

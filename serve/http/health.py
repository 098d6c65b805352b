"""GET /health, /info and /metrics: for probes, people and Prometheus."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serve.classification.classifier import Classifier
from serve.errors import Draining
from serve.generation.generator import Generator

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Say that the server takes requests; 503 once it is stopping."""
    if request.app.state.engine.draining:
        raise Draining("the server is stopping")
    return {"status": "ok"}


@router.get("/info")
async def info(request: Request) -> dict[str, Any]:
    """Describe the bundle and its adapters."""
    model: Classifier | Generator = request.app.state.engine.model
    manifest = model.bundle.manifest
    return {
        "task": manifest.task,
        "shape": manifest.shape,
        "precision": manifest.precision,
        "provider": model.provider,
        "slots": model.bank.room if model.bank else None,
        "base": manifest.base,
        "versions": manifest.versions,
        "adapters": {
            name: {
                "sha256": card.sha256,
                "kind": card.kind,
                "pairs": card.pairs,
                "regression": card.regression,
                "labels": card.labels,
                "max_length": card.max_length,
                "metrics": card.metrics,
                "parity": manifest.parity.get(name),
            }
            for name, card in model.cards.items()
        },
    }


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the counters in Prometheus' text format."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

"""GET /health and below, /info and /metrics: for probes, people and Prometheus."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.engine import BundleEngine, Engine, ModelInfo
from serve.readiness import Readiness

router = APIRouter()
OK = {"status": "ok"}


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Return 200 while the server takes requests, and 503 once it is stopping or its device is lost."""
    readiness: Readiness = request.app.state.readiness
    readiness.check_open()
    return OK


@router.get("/health/live")
async def live(request: Request) -> dict[str, str]:
    """Return 200 while the process can answer, also while it stops, and 503 once only a restart helps."""
    readiness: Readiness = request.app.state.readiness
    readiness.check_live()
    return OK


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, str]:
    """Return 200 once the server has warmed up and until it begins to stop, and 503 otherwise."""
    readiness: Readiness = request.app.state.readiness
    readiness.check_ready()
    return OK


@router.get("/info")
async def info(request: Request) -> dict[str, Any]:
    """Describe the bundle, its adapters and, apart from these, the members that adapters are the means of.

    Of a server with several bundles it describes each, in `bundles`.
    """
    engine: Engine = request.app.state.engine
    parts = [describe_bundle(part) for part in engine.parts()]
    return parts[0] if len(parts) == 1 else {"bundles": parts}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the counters in Prometheus' text format."""
    content, media_type = request.app.state.metrics.exposition()
    return Response(content, media_type=media_type)


def describe_bundle(engine: BundleEngine) -> dict[str, Any]:
    """Return the facts of a bundle and of its adapters."""
    facts, models = engine.info(), [model for model in engine.models() if not model.is_base]
    return {
        "task": facts.task,
        "shape": facts.shape,
        "precision": facts.precision,
        "provider": facts.provider,
        "graph": facts.graph,
        "ensemble": facts.ensemble,
        "device": None if facts.device is None else asdict(facts.device),
        "slots": facts.slots,
        "base": facts.base,
        "versions": facts.versions,
        "adapters": {model.name: _described(model) for model in models if not model.member_of},
        "members": {
            model.name: {"member_of": model.member_of, **_described(model)} for model in models if model.member_of
        },
    }


def _described(model: ModelInfo) -> dict[str, Any]:
    return {
        "sha256": model.sha256,
        "kind": model.kind,
        "pairs": model.pairs,
        "regression": model.regression,
        "labels": model.labels,
        "max_length": model.max_length,
        "metrics": model.metrics,
        "parity": model.parity,
    }

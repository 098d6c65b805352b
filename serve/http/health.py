"""GET /health and below, /info and /metrics: for probes, people and Prometheus."""

import asyncio
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

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

    Of a server with several bundles it describes each, in `bundles`. The model's name, type and labels are also where
    clients of text-embeddings-inference look for them; a bundle with one adapter has its `model_type`.
    """
    engine: Engine = request.app.state.engine
    parts = [describe_bundle(part) for part in engine.parts()]
    server = {"version": version("adamix"), "max_client_batch_size": request.app.state.max_client_batch_size}
    return {**(parts[0] if len(parts) == 1 else {"bundles": parts}), **server}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the counters in Prometheus' text format."""
    # In a thread: the workers of a server ask each other.
    content, media_type = await asyncio.to_thread(request.app.state.exposition)
    return Response(content, media_type=media_type)


def describe_bundle(engine: BundleEngine) -> dict[str, Any]:
    """Return the facts of a bundle and of its adapters."""
    facts, models = engine.info(), [model for model in engine.models() if not model.is_base]
    alone = [one for one in models if not one.member_of]
    return {
        "model_id": facts.base["name"],
        "model_sha": facts.base["sha256"],
        **(_model_type(alone[0]) if len(alone) == 1 else {}),
        "task": facts.task,
        "shape": facts.shape,
        "precision": facts.precision,
        "provider": facts.provider,
        "graph": facts.graph,
        "graph_bytes": facts.graph_bytes,
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
        "rank": model.rank,
        "num_modules": model.num_modules,
        "module_distances": list(model.module_distances),
        "record_fields": list(model.record_fields),
        "pairs": model.pairs,
        "regression": model.regression,
        "labels": model.labels,
        **_model_type(model),
        "max_length": model.max_length,
        "metrics": model.metrics,
        "parity": model.parity,
    }


def _model_type(model: ModelInfo) -> dict[str, Any]:
    """Return the type of a classifier in text-embeddings-inference's form, to which one label is a reranker."""
    if not model.labels:
        return {}
    numbered = list(enumerate(model.labels))
    labels = {
        "id2label": {str(number): label for number, label in numbered},
        "label2id": {label: number for number, label in numbered},
    }
    return {"model_type": {"reranker" if len(numbered) == 1 else "classifier": labels}}

"""GET /v2 and below: health, and the models that there are."""

from typing import Any

from fastapi import APIRouter, Request

from serve.engine import Engine
from serve.http.health import health
from serve.oip.models import find_model, models_of, server_metadata

router = APIRouter()


@router.get("/v2")
async def server(request: Request) -> dict[str, Any]:
    """Describe the server."""
    return server_metadata()


@router.get("/v2/health/live")
async def live(request: Request) -> dict[str, bool]:
    """Return 200 while the process answers."""
    return {"live": True}


@router.get("/v2/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Return 200 while the server takes requests, and 503 once it is stopping or its device is lost."""
    await health(request)
    return {"ready": True}


@router.get("/v2/models/{name}")
@router.get("/v2/models/{name}/versions/{version}")
async def metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Describe a model: its inputs, its outputs, and the version of its weights."""
    return find_model(request.app.state.engine, name, version).metadata()


@router.get("/v2/models/{name}/ready")
@router.get("/v2/models/{name}/versions/{version}/ready")
async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Return 200 while a model takes requests."""
    find_model(request.app.state.engine, name, version)
    await health(request)
    return {"name": name, "ready": True}


@router.post("/v2/repository/index")
async def index(request: Request) -> list[dict[str, str]]:
    """List the models, once for each version."""
    engine: Engine = request.app.state.engine
    return [entry for model in models_of(engine).values() for entry in model.index()]

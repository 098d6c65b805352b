"""GET /v2 and below: health, and the models that there are."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from serve.http import health
from serve.http.body import Body
from serve.http.openapi import request_body
from serve.oip.models import find_model, model_index, server_metadata

router = APIRouter()


class IndexRequest(Body):
    """The models to list."""

    ready: Annotated[bool | None, Field(description="list only those that take requests")] = None


@router.get("/v2")
async def server(request: Request) -> dict[str, Any]:
    """Describe the server."""
    return server_metadata()


@router.get("/v2/health/live")
async def live(request: Request) -> dict[str, bool]:
    """Return 200 while the process can answer, and 503 once only a restart helps."""
    await health.live(request)
    return {"live": True}


@router.get("/v2/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Return 200 once the server has warmed up and until it begins to stop, and 503 otherwise."""
    await health.ready(request)
    return {"ready": True}


@router.get("/v2/models/{name}")
@router.get("/v2/models/{name}/versions/{version}")
async def metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Describe a model: its inputs, its outputs, and the version of its weights."""
    model = await find_model(request.app.state.engine, name, version)
    return model.metadata()


@router.get("/v2/models/{name}/ready")
@router.get("/v2/models/{name}/versions/{version}/ready")
async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Return 200 for a model of a server that is ready."""
    await find_model(request.app.state.engine, name, version)
    await health.ready(request)
    return {"name": name, "ready": True}


@router.post("/v2/repository/index", openapi_extra=request_body(IndexRequest, required=False))
async def index(request: Request) -> list[dict[str, str]]:
    """List the models, once for each version; a request without a body asks for all."""
    body = await request.body()
    asked = IndexRequest.from_json(body) if body else IndexRequest()
    state = request.app.state
    return model_index(state.engine, obstacle=state.readiness.obstacle, ready=bool(asked.ready))

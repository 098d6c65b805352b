"""Load, replace and unload adapters while serving: vLLM's routes, and those of the Open Inference Protocol."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from serve.adapter_loading import UNLOAD_PARAMETERS, AdapterLoading, check_parameters
from serve.http.body import Body
from serve.http.openapi import request_body

router = APIRouter(responses={403: {}})


class LoadAdapterRequest(Body):
    """An adapter's name and its folder."""

    model_config = ConfigDict(json_schema_extra={"example": {"lora_name": "mood", "lora_path": "mood"}})

    lora_name: Annotated[str, Field(description="the name in the adapter's card")]
    lora_path: Annotated[str, Field(description="folder of a standalone adapter, from --adapter-dir on")]
    load_inplace: Annotated[bool, Field(description="take the place of the adapter that has the name")] = False


class UnloadAdapterRequest(Body):
    """The name of an adapter."""

    lora_name: str


class RepositoryRequest(Body):
    """Parameters of the Open Inference Protocol, of which an adapter has none."""

    parameters: Annotated[dict[str, Any] | None, Field(description="unload_dependents, which adapters do not have")] = (
        None
    )


REPOSITORY_BODY = request_body(RepositoryRequest, required=False)


@router.post("/v1/load_lora_adapter", openapi_extra=request_body(LoadAdapterRequest))
async def load(request: Request) -> dict[str, Any]:
    """Load an adapter, as vLLM does; it is compared with PyTorch's logits before it answers."""
    loading = _loading(request)
    body = LoadAdapterRequest.from_json(await request.body())
    request.state.field_names = {"folder": "lora_path"}
    info = await loading.load(body.lora_name, body.lora_path, replace=body.load_inplace)
    return {"id": info.name, "object": "model", "root": info.sha256}


@router.post("/v1/unload_lora_adapter", openapi_extra=request_body(UnloadAdapterRequest))
async def unload(request: Request) -> dict[str, Any]:
    """Unload an adapter, as vLLM does; requests that arrived before still get it."""
    loading = _loading(request)
    body = UnloadAdapterRequest.from_json(await request.body())
    request.state.field_names = {"adapter": "lora_name"}
    await loading.unload(body.lora_name)
    return {"id": body.lora_name, "object": "model", "deleted": True}


@router.post("/v2/repository/models/{name}/load", openapi_extra=REPOSITORY_BODY)
async def load_model(request: Request, name: str) -> dict[str, Any]:
    """Load the adapter in the folder of its name, or replace the one there is, as the protocol has it."""
    loading = _loading(request)
    _check_empty(await request.body())
    await loading.load(name, name, replace=True)
    return {}


@router.post("/v2/repository/models/{name}/unload", openapi_extra=REPOSITORY_BODY)
async def unload_model(request: Request, name: str) -> dict[str, Any]:
    """Unload an adapter; requests that arrived before still get it."""
    loading = _loading(request)
    _check_empty(await request.body(), allowed=UNLOAD_PARAMETERS)
    await loading.unload(name)
    return {}


def _check_empty(body: bytes, allowed: Sequence[str] = ()) -> None:
    """Raise an InputError for parameters that would change something elsewhere."""
    if body:
        check_parameters(RepositoryRequest.from_json(body).parameters or {}, allowed)


def _loading(request: Request) -> AdapterLoading:
    """Return what loads adapters, for a client that may: asked before its body is read."""
    loading: AdapterLoading = request.app.state.adapter_loading
    loading.allowed_root()
    return loading

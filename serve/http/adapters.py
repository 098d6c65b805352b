"""Load, replace and unload adapters while serving: vLLM's routes, and those of the Open Inference Protocol."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import ConfigDict, Field

from serve.engine import Engine, ModelInfo
from serve.errors import BundleError, InputError, shortened
from serve.http.body import Body
from serve.http.openapi import request_body

MAX_PATH = 128
"""Characters of a path that an error quotes."""
FORBIDDEN: dict[int | str, dict[str, Any]] = {403: {"description": "the server was started without --adapter-dir"}}
router = APIRouter(responses=FORBIDDEN)


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

    parameters: Annotated[dict[str, Any], Field(description="unload_dependents, which adapters do not have")] = Field(
        default_factory=dict
    )


@router.post("/v1/load_lora_adapter", openapi_extra=request_body(LoadAdapterRequest))
async def load(request: Request) -> dict[str, Any]:
    """Load an adapter, as vLLM does; it is compared with PyTorch's logits before it answers."""
    body = LoadAdapterRequest.from_json(await request.body())
    request.state.field_names = {"folder": "lora_path"}
    info = await _loaded(request, body.lora_name, body.lora_path, replace=body.load_inplace)
    return {"id": info.name, "object": "model", "root": info.sha256}


@router.post("/v1/unload_lora_adapter", openapi_extra=request_body(UnloadAdapterRequest))
async def unload(request: Request) -> dict[str, Any]:
    """Unload an adapter, as vLLM does; requests that arrived before still get it."""
    body = UnloadAdapterRequest.from_json(await request.body())
    request.state.field_names = {"adapter": "lora_name"}
    await _unloaded(request, body.lora_name)
    return {"id": body.lora_name, "object": "model", "deleted": True}


@router.post("/v2/repository/models/{name}/load")
async def load_model(request: Request, name: str) -> dict[str, Any]:
    """Load the adapter in the folder of its name, or replace the one there is, as the protocol has it."""
    _check_empty(await request.body())
    await _loaded(request, name, name, replace=True)
    return {}


@router.post("/v2/repository/models/{name}/unload")
async def unload_model(request: Request, name: str) -> dict[str, Any]:
    """Unload an adapter; requests that arrived before still get it."""
    _check_empty(await request.body(), allowed=("unload_dependents",))
    await _unloaded(request, name)
    return {}


def _check_empty(body: bytes, allowed: Sequence[str] = ()) -> None:
    """Raise an InputError for parameters that would change something elsewhere."""
    if body and (unknown := set(RepositoryRequest.from_json(body).parameters).difference(allowed)):
        raise InputError(f"unknown parameter {min(unknown)!r}: an adapter's folder says all there is to it")


async def _loaded(request: Request, name: str, path: str, *, replace: bool) -> ModelInfo:
    """Load an adapter beside the event loop.

    Raises:
        HTTPException: The server does not load adapters.
        InputError: The path leads elsewhere, or the adapter is refused.
    """
    folder, engine = folder_below(_adapter_dir(request), path), _engine(request)
    try:
        return await asyncio.to_thread(engine.load, folder, name=name, replace=replace)
    except BundleError as error:
        raise InputError(str(error)) from error


async def _unloaded(request: Request, name: str) -> None:
    _adapter_dir(request)
    await asyncio.to_thread(_engine(request).unload, name)


def folder_below(root: Path, path: str) -> Path:
    """Return the folder that a client names, links resolved.

    Raises:
        InputError: It is not below `root`, or not there.
    """
    root = root.resolve()
    try:
        folder = (root / path).resolve()
        inside, there = folder.is_relative_to(root) and folder != root, folder.is_dir()
        files = (
            [file for file in folder.iterdir() if not file.resolve().is_relative_to(root)] if inside and there else []
        )
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a null character
        raise InputError(f"there is no adapter folder {shortened(path, MAX_PATH)!r}: {error}", "folder") from error
    if not inside:
        raise InputError(f"{path!r} is not below the folder that adapters are loaded from (--adapter-dir)", "folder")
    if not there:
        raise InputError(f"there is no adapter folder {path!r} below --adapter-dir", "folder")
    if files:
        raise InputError(f"{files[0].name} in {path!r} is a link to a file that is not below --adapter-dir", "folder")
    return folder


def _adapter_dir(request: Request) -> Path:
    root: Path | None = request.app.state.adapter_dir
    if root is None:
        raise HTTPException(403, "adapters are not loaded while serving: start adamix-serve with --adapter-dir FOLDER")
    return root


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine

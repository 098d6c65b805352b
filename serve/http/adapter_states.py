"""GET /v1/adapters: where each adapter is, and why one is not served."""

import asyncio
import enum
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from serve.adapter_folder import adapter_folders
from serve.adapter_loading import AdapterLoading, FolderRecord
from serve.adapter_place import AdapterPlace, HasAdapterPlaces
from serve.api_keys import client_key
from serve.engine import Engine, ModelInfo
from serve.lookup import LookupEngine

router = APIRouter()
VERSION_LENGTH = 12


class Status(enum.StrEnum):
    """State of an adapter."""

    GRAPH = "graph"
    SLOT = "slot"
    HOST = "host"
    DISK = "disk"
    REGISTERED = "registered"
    AVAILABLE = "available"
    FAILED = "failed"


class AdapterState(BaseModel):
    """One adapter: served, or in a folder below --adapter-dir."""

    name: str
    object: str = "adapter"
    status: Annotated[
        Status,
        Field(
            description="of those that are served: slot (in a slot of the bank), host (in host memory), disk (read "
            "again on its next request), graph (merged into the graph), registered (the engine does not say); of "
            "others: available (in its folder, not loaded), failed (refused, with error)"
        ),
    ]
    served: Annotated[bool, Field(description="requests can name it")]
    error: Annotated[
        str | None, Field(description="why its folder could not be loaded last; what was served before still is")
    ] = None
    sha256: Annotated[str | None, Field(description="sha256 of the weights that are served")] = None
    version: Annotated[str | None, Field(description="the start of it, as the Open Inference Protocol has it")] = None
    loaded_at: Annotated[float | None, Field(description="time of its loading, in seconds since 1970")] = None
    base: Annotated[str | None, Field(description="base model of the bundle that it is served by")] = None
    task: Annotated[str | None, Field(description="task of that bundle")] = None
    kind: Annotated[str | None, Field(description="kind of adapter, such as lora")] = None
    rank: Annotated[int | None, Field(description="rank or bottleneck width")] = None
    size_bytes: Annotated[int | None, Field(description="bytes of its weights")] = None
    slot: Annotated[int | None, Field(description="its slot; null if it is in none")] = None
    in_host_memory: bool | None = None
    pinned: Annotated[bool, Field(description="it keeps its slot, however long ago it was used")] = False
    member_of: Annotated[str | None, Field(description="adapter that it is a module of")] = None
    source: Annotated[
        str | None, Field(description="client, watch or lookup; null for adapters of the bundle and of --adapter")
    ] = None
    folder: Annotated[str | None, Field(description="its folder, from --adapter-dir on")] = None


class AdapterStates(BaseModel):
    """All adapters."""

    object: str = "list"
    data: list[AdapterState]


@router.get("/v1/adapters")
async def adapters(request: Request) -> AdapterStates:
    """List the adapters that are served and those that failed; to administrators and with --adapter-lookup all others.

    Without API keys everybody is an administrator. The others are those directly below --adapter-dir.
    """
    engine: Engine = request.app.state.engine
    loading: AdapterLoading = request.app.state.adapter_loading
    key = client_key.get()
    sees_all = key is None or key.admin or isinstance(engine, LookupEngine)
    return AdapterStates(data=await asyncio.to_thread(_states, engine, loading, sees_all=sees_all))


def _states(engine: Engine, loading: AdapterLoading, *, sees_all: bool) -> list[AdapterState]:
    records = list(loading.records.values())
    found = list(_served(engine, {record.name: record for record in records if record.name}))
    names = {one.name for one in found}
    failed = [record for record in records if record.error and not record.name]
    found += [
        AdapterState(name=record.path, folder=record.path, status=Status.FAILED, served=False, error=record.error)
        for record in failed
    ]
    tried = {record.path for record in records if record.name or record.error or record.is_blocked}
    if sees_all:
        found += [
            AdapterState(name=path, folder=path, status=Status.AVAILABLE, served=False)
            for path in _folders(loading)
            if path not in tried and path not in names
        ]
    return found


def _served(engine: Engine, records: dict[str, FolderRecord]) -> Iterator[AdapterState]:
    """Yield the adapters that are served, with the records of their folders."""
    for part in engine.parts():
        facts, places = part.info(), part.adapter_places() if isinstance(part, HasAdapterPlaces) else {}
        for model in part.models():
            if not model.is_base:
                state = _state(model, places.get(model.name), records.get(model.name))
                yield state.model_copy(update={"base": facts.base["name"], "task": facts.task})


def _state(model: ModelInfo, place: AdapterPlace | None, record: FolderRecord | None) -> AdapterState:
    state = AdapterState(
        name=model.name,
        status=Status.REGISTERED,
        served=True,
        sha256=model.sha256,
        version=model.sha256[:VERSION_LENGTH],
        kind=model.kind,
        member_of=model.member_of or None,
    )
    if record is not None:
        state = state.model_copy(
            update={"source": str(record.source), "folder": record.path, "error": record.error or None}
        )
    if place is None:
        return state
    return state.model_copy(
        update={
            "status": Status(place.residency),
            "loaded_at": place.loaded_at,
            "rank": place.rank,
            "size_bytes": place.size_bytes,
            "slot": place.slot,
            "in_host_memory": place.in_host_memory,
            "pinned": place.pinned,
        }
    )


def _folders(loading: AdapterLoading) -> list[str]:
    """Return the adapters directly below --adapter-dir; none if it cannot be listed."""
    try:
        return list(adapter_folders(loading.root)) if loading.root is not None else []
    except OSError:
        return []

"""GET /v1/models: the adapters, and the base model where requests can select it; a member's parent is its adapter."""

import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from serve.engine import Engine, ModelInfo
from serve.errors import MAX_NAME, UnknownAdapter, shortened
from serve.lookup import look_up

router = APIRouter()
CREATED = int(time.time())
"""Start of this process: adapters do not say when they were made."""


class Model(BaseModel):
    """One adapter, or the base model."""

    id: str
    object: str = "model"
    created: int = CREATED
    owned_by: str = "adamix"
    root: Annotated[str, Field(description="sha256 of the adapter's weights")]
    parent: Annotated[str, Field(description="the base, or for a member of a mixture the adapter that is its mean")]
    max_model_len: Annotated[int, Field(description="most tokens of a prompt")]
    prompt: Annotated[
        str | None, Field(description="prompt that texts are put into, at {input}; null for a classifier")
    ] = None
    chat: Annotated[
        str | None,
        Field(
            description="template: chats go through the base's chat template; prompt: the one message of a chat goes "
            "into the adapter's own prompt, on which it was trained; null: no chats"
        ),
    ] = None
    tools: Annotated[str | None, Field(description="form of its tool calls, hermes or llama; null: none")] = None


class Models(BaseModel):
    """All models."""

    object: str = "list"
    data: list[Model]


@router.get("/v1/models")
async def models(request: Request) -> Models:
    """List the adapters, and the base model where requests can select it."""
    engine: Engine = request.app.state.engine
    return Models(data=list(_models(engine)))


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Model:
    """Return one of them."""
    request.state.field_names = {"adapter": "model"}
    engine: Engine = request.app.state.engine
    await look_up(engine, name)
    found = engine.model(name)
    if found is None:
        raise UnknownAdapter(f"there is no model {shortened(name, MAX_NAME)!r} here; /v1/models lists those there are")
    return _model(found, next(part.info().base["name"] for part in engine.parts() if part.serves(name)))


def _models(engine: Engine) -> Iterator[Model]:
    """Yield the models, each with the name of its base."""
    bases = {model.name: part.info().base["name"] for part in engine.parts() for model in part.models()}
    for one in engine.models():
        yield _model(one, bases[one.name])


def _model(one: ModelInfo, base: str) -> Model:
    return Model(
        id=one.name,
        root=one.sha256,
        parent=one.member_of or base,
        max_model_len=one.max_length,
        prompt=one.prompt,
        chat=one.chat,
        tools=one.tools,
    )

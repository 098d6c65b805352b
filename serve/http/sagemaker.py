"""GET /ping and POST /invocations, which SageMaker sends: a body goes to the route that has its fields."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import RootModel

from serve.engine import Capability, Engine
from serve.errors import InputError
from serve.http.health import health
from serve.http.openai.chat import chat_completions
from serve.http.openai.chat_messages import ChatRequest
from serve.http.openai.completion_messages import CompletionRequest
from serve.http.openai.completions import completions
from serve.http.openapi import request_body
from serve.http.rerank import RerankRequest, rerank
from serve.http.tei.predict import PredictRequest, predict
from serve.http.vllm.classify import ClassifyRequest, classify

router = APIRouter()


@dataclass(frozen=True)
class Target:
    """A route that bodies go to."""

    path: str
    answer: Callable[[Request], Awaitable[Response]]
    capability: Capability


TARGETS = {
    "inputs": Target("/predict", predict, Capability.CLASSIFY),
    "input": Target("/classify", classify, Capability.CLASSIFY),
    "query": Target("/rerank", rerank, Capability.CLASSIFY),
    "messages": Target("/v1/chat/completions", chat_completions, Capability.GENERATE),
    "prompt": Target("/v1/completions", completions, Capability.GENERATE),
}
"""Routes by the field that tells their bodies from those of others."""


class Invocation(RootModel[PredictRequest | ClassifyRequest | RerankRequest | ChatRequest | CompletionRequest]):
    """A body of one of these routes."""


@router.get("/ping")
async def ping(request: Request) -> dict[str, str]:
    """Return 200 while the server takes requests, and 503 once it is stopping or its device is lost."""
    return await health(request)


@router.post("/invocations", response_model=None, openapi_extra=request_body(Invocation))
async def invocations(request: Request) -> Response:
    """Answer as the route that has the body's fields, whose form an error has too.

    These are `/predict`, `/classify`, `/rerank`, `/v1/chat/completions` and `/v1/completions`.
    """
    engine: Engine = request.app.state.engine
    targets = {name: one for name, one in TARGETS.items() if one.capability in engine.capabilities}
    body = await _fields(request)
    target = next((one for name, one in targets.items() if name in body), None)
    if target is None:
        raise InputError(
            "the body has none of the fields "
            + ", ".join(f"{name} (as in {one.path})" for name, one in targets.items())
            + ": send that of the route which shall answer"
        )
    request.state.error_path = target.path
    return await target.answer(request)


async def _fields(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    return body if isinstance(body, dict) else {}

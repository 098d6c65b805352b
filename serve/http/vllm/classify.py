"""POST /classify, compatible with vLLM: the adapter is the model."""

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.http.body import Strings
from serve.http.headers import adapter_headers
from serve.http.nullable_body import NullableBody
from serve.http.openapi import request_body
from serve.requests import ClassificationRequest

router = APIRouter()


class ClassifyRequest(NullableBody):
    """Texts to classify through one adapter."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tone", "input": ["It works like a charm."]}})

    input: Annotated[str | Strings, Field(description="a text, or a list of texts")]
    model: Annotated[str | None, Field(description="name of the adapter; optional if there is only one")] = None
    truncate_prompt_tokens: Annotated[
        int | None, Field(description="-1 cuts texts that are too long instead of refusing them; no other value")
    ] = None
    use_activation: Annotated[bool, Field(description="return probabilities; false returns logits")] = True
    user: Annotated[str | None, Field(description="accepted and ignored")] = None


class Classified(BaseModel):
    """The result for one text."""

    index: int
    label: str
    probs: Annotated[list[float], Field(description="of all labels, in the order that /info has them")]
    num_classes: int


class ClassifyResponse(BaseModel):
    """The results, in the order of the texts."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Classified]


@router.post("/classify", response_model=ClassifyResponse, openapi_extra=request_body(ClassifyRequest))
async def classify(request: Request) -> Response:
    """Classify texts through one adapter.

    The headers `X-Adapter` and `X-Adapter-Sha256` name it. There is no `usage`: a classifier's work is rows.
    """
    body = ClassifyRequest.from_json(await request.body())
    request.state.field_names = {"adapter": "model", "texts": "input"}
    texts = [body.input] if isinstance(body.input, str) else body.input
    limit = request.app.state.max_client_batch_size
    if not 1 <= len(texts) <= limit:
        raise InputError(f"input has {len(texts)} texts: send 1 to {limit}")
    if body.truncate_prompt_tokens not in (None, -1):
        raise InputError(
            f"truncate_prompt_tokens is {body.truncate_prompt_tokens}: only -1, the adapter's own length, is supported"
        )
    engine: ClassificationEngine = request.app.state.engine
    predictions = await engine.classify(
        ClassificationRequest(
            texts=texts, adapters=[body.model] * len(texts), truncate=body.truncate_prompt_tokens is not None
        )
    )
    content: dict[str, Any] = ClassifyResponse(
        id=f"classify-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=predictions[0].adapter,
        data=[
            Classified(
                index=index,
                label=one.label,
                probs=(one.scores if body.use_activation else one.logits).tolist(),
                num_classes=len(one.labels),
            )
            for index, one in enumerate(predictions)
        ],
    ).model_dump()
    return JSONResponse(content, headers=adapter_headers(predictions))

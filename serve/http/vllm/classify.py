"""POST /classify, compatible with vLLM and infinity: the adapter is the model.

Both have the path, and bodies that differ in one field: one with `raw_scores` is infinity's, and so is its answer.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.http.body import Strings
from serve.http.headers import adapter_headers
from serve.http.nullable_body import NullableBody
from serve.http.openai.protocol import Usage, check_neutral
from serve.http.openapi import request_body
from serve.prediction import Prediction
from serve.requests import ClassificationRequest

router = APIRouter()
NEUTRAL: dict[str, tuple[Any, ...]] = {"add_special_tokens": (True,), "priority": (0,), "padding": ("do_not_pad",)}
"""Values that change nothing, by field; others are refused."""


class ClassifyRequest(NullableBody):
    """Texts to classify through one adapter."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tone", "input": ["It works like a charm."]}})

    input: Annotated[str | Strings, Field(description="a text, or a list of texts")]
    model: Annotated[str | None, Field(description="name of the adapter; optional if there is only one")] = None
    raw_scores: Annotated[
        bool | None, Field(description="true returns logits; the answer to a body with this field has infinity's form")
    ] = None
    use_activation: Annotated[bool | None, Field(description="return probabilities; false returns logits")] = None
    truncate_prompt_tokens: Annotated[
        int | None, Field(description="-1 cuts texts that are too long instead of refusing them; no other value")
    ] = None
    truncation_side: Annotated[
        Literal["right"] | None,
        Field(description="texts lose their end, or their beginning where the base's tokenizer says so"),
    ] = None
    add_special_tokens: Annotated[bool | None, Field(description="only true")] = None
    padding: Annotated[str | None, Field(description="only do_not_pad")] = None
    priority: Annotated[int | None, Field(description="only 0: rows are shared fairly")] = None
    request_id: Annotated[str | None, Field(description="part of the id of the answer", max_length=128)] = None
    cache_salt: Annotated[str | None, Field(description="accepted and ignored: nothing is cached")] = None
    user: Annotated[str | None, Field(description="accepted and ignored")] = None

    @model_validator(mode="before")
    @classmethod
    def refuse_other_inputs(cls, body: Any) -> Any:
        """Raise an InputError for a chat or token ids, which vLLM reads."""
        if isinstance(body, dict):
            if body.get("messages") is not None:
                raise InputError("messages: classifiers here read no chats, send texts as input", "messages")
            given = body.get("input")
            if isinstance(given, list) and given and isinstance(given[0], int | list):
                raise InputError("input has token ids: classifiers here read texts, send these", "input")
        return body

    @property
    def is_infinitys(self) -> bool:
        """The body is one of infinity's."""
        return self.raw_scores is not None

    def texts(self, limit: int) -> list[str]:
        """Return the texts.

        Raises:
            InputError: There are none or more than `limit`, or a field has a value that is not supported.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(texts) <= limit:
            raise InputError(f"input has {len(texts)} texts: send 1 to {limit}", "input")
        cut = self.truncate_prompt_tokens
        if cut not in (None, -1):
            message = f"truncate_prompt_tokens is {cut}: only -1, the adapter's own length, is supported"
            raise InputError(message, "truncate_prompt_tokens")
        if self.is_infinitys and self.use_activation is not None:
            raise InputError("raw_scores and use_activation mean the same: send one of them", "raw_scores")
        check_neutral(self, NEUTRAL)
        return texts

    def values(self, prediction: Prediction) -> list[float]:
        """Return the probabilities of a prediction, or its logits if the body asks for them."""
        is_raw = self.raw_scores or self.use_activation is False
        values: list[float] = (prediction.logits if is_raw else prediction.scores).tolist()
        return values


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
    usage: Usage


class LabelScore(BaseModel):
    """A label and its probability, or logit."""

    score: float
    label: str


class InfinityResponse(BaseModel):
    """The labels of each text, the most probable first, in infinity's form."""

    id: str
    object: str = "classify"
    created: int
    model: str
    data: list[list[LabelScore]]
    usage: Usage


@router.post(
    "/classify", response_model=ClassifyResponse | InfinityResponse, openapi_extra=request_body(ClassifyRequest)
)
async def classify(request: Request) -> Response:
    """Classify texts through one adapter.

    The headers `X-Adapter` and `X-Adapter-Sha256` name it. `usage` counts the tokens that the adapter read, with the
    special ones.
    """
    body = ClassifyRequest.from_json(await request.body())
    request.state.field_names = {"adapter": "model", "texts": "input"}
    texts = body.texts(request.app.state.max_client_batch_size)
    engine: ClassificationEngine = request.app.state.engine
    predictions = await engine.classify(
        ClassificationRequest(
            texts=texts, adapters=[body.model] * len(texts), truncate=body.truncate_prompt_tokens is not None
        )
    )
    usage = Usage.counted(sum(one.tokens for one in predictions), 0)
    answer = _of_infinity(body, predictions) if body.is_infinitys else _of_vllm(body, predictions)
    content = {**answer, "created": int(time.time()), "model": predictions[0].adapter, "usage": usage.model_dump()}
    return JSONResponse(content, headers=adapter_headers(predictions))


def _of_vllm(body: ClassifyRequest, predictions: Sequence[Prediction]) -> Mapping[str, Any]:
    data = [
        {"index": index, "label": one.label, "probs": body.values(one), "num_classes": len(one.labels)}
        for index, one in enumerate(predictions)
    ]
    return {"id": f"classify-{body.request_id or uuid.uuid4().hex}", "object": "list", "data": data}


def _of_infinity(body: ClassifyRequest, predictions: Sequence[Prediction]) -> Mapping[str, Any]:
    data = [
        [
            {"score": score, "label": label}
            for score, label in sorted(zip(body.values(one), one.labels, strict=True), key=lambda pair: -pair[0])
        ]
        for one in predictions
    ]
    return {"id": f"infinity-{body.request_id or uuid.uuid4()}", "object": "classify", "data": data}

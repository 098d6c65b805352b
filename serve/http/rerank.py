"""POST /rerank: documents by their score beside a query, through an adapter for pairs.

The body is text-embeddings-inference's, with `texts`, or Cohere's, with `documents`, which Jina and vLLM have as well;
the response is in the same form. Errors are text-embeddings-inference's at /rerank, and vLLM's, which are OpenAI's, at
/v1/rerank and /v2/rerank.
"""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.http.body import Strings
from serve.http.headers import adapter_headers
from serve.http.nullable_body import NullableBody
from serve.http.openai.protocol import Usage
from serve.http.openapi import request_body
from serve.prediction import Prediction
from serve.requests import ClassificationRequest

router = APIRouter()
Name = Annotated[str | None, Field(description="name of the adapter; optional if there is only one")]


class RerankRequest(NullableBody):
    """A query, and the texts that are put in order."""

    model_config = ConfigDict(json_schema_extra={"example": {"query": "late delivery", "texts": ["It never arrived."]}})

    query: str
    texts: Strings | None = None
    documents: Strings | None = None
    adapter: Name = None
    model: Name = None
    truncate: Annotated[bool, Field(description="cut pairs that are too long instead of refusing them")] = False
    raw_scores: Annotated[bool, Field(description="return logits instead of probabilities")] = False
    return_text: Annotated[bool, Field(description="with texts: return each text as well")] = False
    return_documents: Annotated[bool, Field(description="with documents: return each document as well")] = False
    top_n: Annotated[int | None, Field(ge=1, description="return so many; all by default")] = None

    def candidates(self, limit: int) -> list[str]:
        """Return the texts.

        Raises:
            InputError: There are none or more than `limit`, or two fields have them or the adapter's name.
        """
        if (self.texts is None) == (self.documents is None):
            raise InputError("send the texts that are put in order as texts, or as documents")
        if self.return_documents if self.documents is None else self.return_text:
            raise InputError("return_text goes with texts, and return_documents with documents")
        if self.adapter and self.model:
            raise InputError("adapter and model mean the same: send one of them")
        found = self.texts or self.documents or []
        if not 1 <= len(found) <= limit:
            raise InputError(f"there are {len(found)} texts: send 1 to {limit}")
        return found


@router.post("/rerank", response_model=None, openapi_extra=request_body(RerankRequest))
@router.post("/v1/rerank", response_model=None, openapi_extra=request_body(RerankRequest))
@router.post("/v2/rerank", response_model=None, openapi_extra=request_body(RerankRequest))
async def rerank(request: Request) -> Response:
    """Put texts in order by their score beside a query, the highest first.

    The score is the value of a regression on pairs, or the probability of the second label of a classifier of pairs
    with two labels.
    """
    body = RerankRequest.from_json(await request.body())
    request.state.field_names = {"adapter": "adapter" if body.model is None else "model"}
    engine: ClassificationEngine = request.app.state.engine
    texts = body.candidates(request.app.state.max_client_batch_size)
    predictions = await engine.classify(
        ClassificationRequest(
            texts=[(body.query, text) for text in texts],
            adapters=[body.adapter or body.model] * len(texts),
            truncate=body.truncate,
        )
    )
    scores = [score_of(prediction, raw=body.raw_scores) for prediction in predictions]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    content: list[dict[str, Any]] | dict[str, Any] = [
        {"index": index, "score": scores[index], **({"text": texts[index]} if body.return_text else {})}
        for index in order
    ]
    if body.documents is not None:
        content = {
            "id": f"rerank-{uuid.uuid4().hex}",
            "model": predictions[0].adapter,
            "results": _results(texts, scores, order, with_documents=body.return_documents),
            "usage": Usage.counted(sum(one.tokens for one in predictions), 0).model_dump(),
        }
    return JSONResponse(content, headers=adapter_headers(predictions))


def _results(
    texts: Sequence[str], scores: Sequence[float], order: Sequence[int], *, with_documents: bool
) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "relevance_score": scores[index],
            **({"document": {"text": texts[index]}} if with_documents else {}),
        }
        for index in order
    ]


def score_of(prediction: Prediction, *, raw: bool) -> float:
    """Return the score of a pair.

    Raises:
        InputError: The adapter has more than two labels.
    """
    if len(prediction.labels) > 2:
        raise InputError(
            f"adapter {prediction.adapter} has {len(prediction.labels)} labels: a rerank takes a regression on pairs, "
            "or a classifier of pairs with two labels, of which the second means that they belong together"
        )
    return float((prediction.logits if raw else prediction.scores)[-1])

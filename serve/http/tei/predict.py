"""POST /predict, compatible with text-embeddings-inference, plus an adapter for every text."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.events import BatchFinished
from serve.http.batch_header import batch_header
from serve.http.body import FirstError, Strings
from serve.http.headers import adapter_headers
from serve.http.nullable_body import NullableBody
from serve.http.openapi import request_body
from serve.http.protocol import ErrorKind
from serve.prediction import Prediction
from serve.request_context import current_request
from serve.requests import ClassificationRequest, Text, adapter_names

router = APIRouter()


class PredictRequest(NullableBody):
    """Texts or pairs to classify."""

    model_config = ConfigDict(json_schema_extra={"example": {"inputs": "It works like a charm."}})

    inputs: Annotated[
        str | Strings | Annotated[list[Strings], FirstError()],
        Field(
            description='a text; a pair: ["one", "two"]; or a batch: [["a text"], ["another"]], or of pairs '
            '[["one", "two"], ["three", "four"]]'
        ),
    ]
    adapter: Annotated[
        str | Strings | None, Field(description="adapter of all texts, or of each; optional if there is only one")
    ] = None
    truncate: Annotated[bool, Field(description="cut texts that are too long instead of refusing them")] = False
    truncation_direction: Annotated[
        Literal["Right", "right"] | None,
        Field(
            description="texts lose their end, or their beginning where the base's tokenizer says so; Left is refused"
        ),
    ] = None
    windows: Annotated[
        bool, Field(description="split long texts into overlapping windows, and average the windows' scores")
    ] = False
    overlap: Annotated[
        int | None, Field(description="tokens that neighbouring windows share; a quarter of a window by default")
    ] = None
    raw_scores: Annotated[bool, Field(description="return logits instead of probabilities")] = False
    return_adapter: Annotated[
        bool, Field(description="return with each label the adapter's name and the sha256 of its weights")
    ] = False
    return_batch: Annotated[
        bool, Field(description="say in the header X-Batch which adapters were in the batches of the texts")
    ] = False
    members: Annotated[
        bool,
        Field(
            description="return for each label also the spread of its probability over the modules of the adapter's "
            "mixture; for adapters that were exported with --keep-modules"
        ),
    ] = False


class Score(BaseModel):
    """A label and its probability (or logit), or the value of a regression."""

    label: str
    score: float
    spread: Annotated[
        float | None,
        Field(description="standard deviation of the probability (or value) over the members; only if asked for"),
    ] = None
    adapter: Annotated[str | None, Field(description="only if asked for, as the next")] = None
    sha256: str | None = None


@router.post("/predict", response_model=list[Score] | list[list[Score]], openapi_extra=request_body(PredictRequest))
async def predict(request: Request) -> Response:
    """Classify texts, or pairs of texts.

    One text or pair returns a list of labels, most probable first; a batch returns a list of such lists. The headers
    `X-Adapter` and `X-Adapter-Sha256` name the adapters, each once, unless they are more than 16.
    """
    body = PredictRequest.from_json(await request.body())
    limit = request.app.state.max_client_batch_size
    texts = _texts(body.inputs, limit=limit)
    engine: ClassificationEngine = request.app.state.engine
    batches: list[BatchFinished] = []
    if body.return_batch and (context := current_request.get()) is not None:
        context.batches = batches
    predictions = await engine.classify(
        ClassificationRequest(
            texts=texts,
            adapters=adapter_names(body.adapter, len(texts)),
            truncate=body.truncate,
            windows=body.windows,
            overlap=body.overlap,
            max_windows=limit,
            members=body.members,
        )
    )
    results = [_scores(prediction, body) for prediction in predictions]
    headers = adapter_headers(predictions) | batch_header(batches, {one.adapter for one in predictions})
    return JSONResponse(results if _is_batch(body.inputs) else results[0], headers=headers)


def error_body(message: str, kind: ErrorKind, param: str | None) -> dict[str, Any]:
    """Return an error in text-embeddings-inference's form."""
    return {"error": message, "error_type": kind.error_type}


def _is_batch(inputs: str | list[str] | list[list[str]]) -> bool:
    return isinstance(inputs, list) and not any(isinstance(item, str) for item in inputs)


def _texts(inputs: str | list[str] | list[list[str]], *, limit: int) -> list[Text]:
    """Return the texts and pairs of a request."""
    if isinstance(inputs, str):
        return [inputs]
    if not inputs:
        raise InputError("inputs is empty: send a text or a batch of texts")
    if not _is_batch(inputs):
        return [_text(inputs)]
    if len(inputs) > limit:
        raise InputError(f"inputs has {len(inputs)} texts; at most {limit} go into one request")
    return [_text(item) for item in inputs]


def _text(item: Sequence[object]) -> Text:
    match item:
        case [str(text)]:
            return text
        case [str(first), str(second)]:
            return first, second
    raise InputError(
        'a list of plain strings is a pair, ["one", "two"]; a batch is a list of one-text lists, [["one"], ["two"]], '
        "or of pairs"
    )


def _scores(prediction: Prediction, body: PredictRequest) -> list[dict[str, object]]:
    """Return scores by label, the highest first, as `Score` describes them."""
    values = prediction.logits if body.raw_scores else prediction.scores
    columns = {"label": prediction.labels, "score": values.tolist()}
    if body.members:
        columns["spread"] = prediction.spread.tolist()
    named = {"adapter": prediction.adapter, "sha256": prediction.sha256} if body.return_adapter else {}
    return [
        dict(zip(columns, row, strict=True)) | named
        for row in sorted(zip(*columns.values(), strict=True), key=lambda row: -row[1])
    ]

"""POST /predict, as text-embeddings-inference has it, with an adapter for every row."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.prediction import Prediction
from serve.classification.text_tokenizer import Text
from serve.errors import InputError
from serve.http.body import Body, FirstFault, Strings

router = APIRouter()


class PredictRequest(Body):
    """Texts or pairs to classify."""

    model_config = ConfigDict(json_schema_extra={"example": {"inputs": "It works like a charm."}})

    inputs: Annotated[
        str | Strings | Annotated[list[Strings], FirstFault()],
        Field(
            description='a text; a pair: ["one", "two"]; or a batch: [["a text"], ["another"]], or of pairs '
            '[["one", "two"], ["three", "four"]]'
        ),
    ]
    adapter: Annotated[
        str | Strings | None, Field(description="the adapter of all texts, or of each; optional if there is one only")
    ] = None
    truncate: Annotated[bool, Field(description="cut texts that are too long instead of refusing them")] = False
    windows: Annotated[
        bool, Field(description="read long texts in windows that overlap, and average the windows' scores")
    ] = False
    overlap: Annotated[
        int | None, Field(description="tokens that a window shares with the one before; a quarter of it by default")
    ] = None
    raw_scores: Annotated[bool, Field(description="return logits instead of probabilities")] = False


class Score(BaseModel):
    """A label and its probability (or logit), or the value of a regression."""

    label: str
    score: float


BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}
}


@router.post("/predict", response_model=list[Score] | list[list[Score]], openapi_extra=BODY)
async def predict(request: Request) -> Response:
    """Classify texts, or pairs of texts.

    One text or pair gives a list of labels, likeliest first; a batch gives a list of such lists. The headers
    `X-Adapter` and `X-Adapter-Sha256` say which adapter answered, one entry a text.
    """
    body = PredictRequest.model_validate_json(await request.body())
    state = request.app.state
    texts = _texts(body.inputs, limit=state.max_client_rows)
    engine: AsyncClassifier = state.engine
    predictions = await engine(
        texts,
        adapter=_adapters(body.adapter, len(texts)),
        truncate=body.truncate,
        windows=body.windows,
        overlap=body.overlap,
        most_rows=state.max_client_rows,
    )
    headers = {
        "X-Adapter": ",".join(prediction.adapter for prediction in predictions),
        "X-Adapter-Sha256": ",".join(prediction.sha256 for prediction in predictions),
    }
    answers = [_scores(prediction, raw=body.raw_scores) for prediction in predictions]
    return JSONResponse(answers if _is_batch(body.inputs) else answers[0], headers=headers)


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


def _adapters(adapter: str | list[str] | None, count: int) -> Sequence[str | None]:
    if not isinstance(adapter, list):
        return [adapter] * count
    if len(adapter) != count:
        raise InputError(f"adapter names {len(adapter)} adapters for {count} texts: give one name, or one for each")
    return adapter


def _scores(prediction: Prediction, *, raw: bool) -> list[dict[str, object]]:
    """Return scores by label, the highest first, as `Score` describes them."""
    values = prediction.logits if raw else prediction.scores
    pairs = zip(prediction.labels, values.tolist(), strict=True)
    return [{"label": label, "score": score} for label, score in sorted(pairs, key=lambda pair: -pair[1])]

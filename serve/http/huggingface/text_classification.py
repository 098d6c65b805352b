"""Classification as Hugging Face's inference API has it."""

from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.http.body import Body, Strings
from serve.http.headers import adapter_headers
from serve.requests import ClassificationRequest


class ClassificationParameters(Body):
    """Options of a classification."""

    function_to_apply: Annotated[
        Literal["softmax", "none"] | None, Field(description="softmax gives probabilities, none gives logits")
    ] = None
    top_k: Annotated[int | None, Field(ge=1, description="labels of a text, the most probable; all by default")] = None


class TextClassificationInput(Body):
    """Texts to classify."""

    inputs: Annotated[str | Strings, Field(description="a text, or a list of texts")]
    parameters: ClassificationParameters | None = None


async def classify(request: Request, name: str | None) -> Response:
    """Return a list of labels for each text, the most probable first."""
    body = TextClassificationInput.from_json(await request.body())
    parameters = body.parameters or ClassificationParameters()
    request.state.field_names = {"texts": "inputs"}
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    limit = request.app.state.max_client_batch_size
    if not 1 <= len(texts) <= limit:
        raise InputError(f"inputs has {len(texts)} texts: send 1 to {limit}", "inputs")
    engine: ClassificationEngine = request.app.state.engine
    predictions = await engine.classify(ClassificationRequest(texts=texts, adapters=[name] * len(texts), truncate=True))
    results: list[list[dict[str, Any]]] = []
    for one in predictions:
        values = one.logits if parameters.function_to_apply == "none" else one.scores
        best = sorted(zip(one.labels, values.tolist(), strict=True), key=lambda pair: -pair[1])
        results.append([{"label": label, "score": score} for label, score in best[: parameters.top_k]])
    return JSONResponse(results, headers=adapter_headers(predictions))

"""POST /v2/models/{name}/infer: texts in, scores and labels out."""

import json
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.http.headers import adapter_headers
from serve.http.oip.messages import InferRequest, Parameter
from serve.http.oip.models import ADAPTER, BANK, PAIR, TEXT, Model, find_model, version_of
from serve.http.oip.outputs import tensors_of
from serve.http.oip.tensors import Tensor, binary_output, json_output, read_texts
from serve.http.openapi import request_body
from serve.requests import ClassificationRequest, Text

HEADER = "Inference-Header-Content-Length"
"""Header that gives the length of the JSON in front of binary data."""
BINARY_DATA, BINARY_OUTPUT = "binary_data", "binary_data_output"
OPTIONS: dict[str, type] = {"truncate": bool, "windows": bool, "overlap": int, "raw_scores": bool, BINARY_OUTPUT: bool}
"""Parameters of a request, and their types."""
router = APIRouter()


class Options(TypedDict, total=False):
    """Parameters that the engine takes."""

    truncate: bool
    windows: bool
    overlap: int


@router.post("/v2/models/{name}/infer", openapi_extra=request_body(InferRequest))
@router.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=request_body(InferRequest))
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Classify texts, or pairs of texts, through one adapter; the model `adamix` takes the adapter of each row.

    Inputs are `text`, `text_pair` and `adapter`, of BYTES with shape (rows,). The model's metadata lists its outputs.
    """
    engine: ClassificationEngine = request.app.state.engine
    model = find_model(engine, name, version)
    asked, binary = _parsed(await request.body(), request.headers.get(HEADER))
    options = _checked(asked.parameters)
    inputs = read_texts(asked.inputs, binary)
    texts, adapters = _rows(model, inputs, limit=request.app.state.max_client_batch_size)
    names, binary_names = _asked_outputs(model, asked, everything=bool(options.pop(BINARY_OUTPUT, False)))
    raw = bool(options.pop("raw_scores", False))
    predictions = await engine.classify(
        ClassificationRequest(
            texts=texts,
            adapters=adapters,
            max_windows=request.app.state.max_client_batch_size,
            **cast(Options, options),
        )
    )
    content = {
        "model_name": name,
        "model_version": version_of(predictions[0].sha256) if model.versions else "",
        **({} if asked.id is None else {"id": asked.id}),
    }
    return _response(content, tensors_of(predictions, names, raw=raw), binary_names, adapter_headers(predictions))


def _parsed(body: bytes, header: str | None) -> tuple[InferRequest, bytes]:
    """Return the request and the binary data behind it."""
    if header is None:
        return InferRequest.from_json(body), b""
    if not header.isascii() or not header.isdigit() or int(header) > len(body):
        raise InputError(f"{HEADER} is {header!r}: the body has {len(body)} bytes, JSON and data together")
    return InferRequest.from_json(body[: int(header)]), body[int(header) :]


def _checked(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    for name, value in parameters.items():
        if name not in OPTIONS:
            raise InputError(f"unknown parameter {name!r}; known are {', '.join(OPTIONS)}")
        if type(value) is not OPTIONS[name]:
            raise InputError(f"parameter {name} is {value!r}: it must be of type {OPTIONS[name].__name__}")
    return dict(parameters)


def _rows(model: Model, inputs: Mapping[str, list[str]], *, limit: int) -> tuple[list[Text], list[str | None]]:
    """Return the text or pair of each row, and its adapter."""
    if unknown := next((name for name in inputs if name not in model.inputs), None):
        raise InputError(f"model {model.name!r} has no input {unknown!r}; it has {', '.join(model.inputs)}")
    if not inputs.get(TEXT):
        raise InputError(f"there is no text: send the input {TEXT!r}, of BYTES")
    texts = inputs[TEXT]
    if len(texts) > limit:
        raise InputError(f"input {TEXT!r} has {len(texts)} texts; at most {limit} go into one request")
    if wrong := next((name for name, values in inputs.items() if len(values) != len(texts)), None):
        raise InputError(f"input {wrong!r} has {len(inputs[wrong])} rows, and {TEXT!r} has {len(texts)}")
    pairs = inputs.get(PAIR)
    rows: list[Text] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    alone: list[str | None] = [None if model.name == BANK and not model.versions else model.name] * len(texts)
    return rows, list(inputs.get(ADAPTER, alone))


def _asked_outputs(model: Model, asked: InferRequest, *, everything: bool) -> tuple[list[str], set[str]]:
    """Return the names of the outputs that are asked for, and of those whose data shall be binary."""
    if not asked.outputs:
        return list(model.outputs), set(model.outputs) if everything else set()
    for output in asked.outputs:
        if output.name not in model.outputs:
            raise InputError(f"model {model.name!r} has no output {output.name!r}; it has {', '.join(model.outputs)}")
        if unknown := next((name for name in output.parameters if name != BINARY_DATA), None):
            raise InputError(f"output {output.name!r} has an unknown parameter {unknown!r}; known is {BINARY_DATA}")
    binary = {output.name for output in asked.outputs if output.parameters.get(BINARY_DATA, everything)}
    return [output.name for output in asked.outputs], binary


def _response(
    content: dict[str, Any], tensors: Mapping[str, Tensor], binary_names: set[str], headers: dict[str, str]
) -> Response:
    """Return JSON, or JSON with the data of some outputs behind it."""
    data = b""
    outputs = []
    for name, tensor in tensors.items():
        if name in binary_names:
            output, more = binary_output(name, tensor)
            data += more
        else:
            output = json_output(name, tensor)
        outputs.append(output)
    if not binary_names:
        return JSONResponse({**content, "outputs": outputs}, headers=headers)
    start = json.dumps({**content, "outputs": outputs}, ensure_ascii=False).encode()
    headers = {**headers, HEADER: str(len(start))}
    return Response(start + data, media_type="application/octet-stream", headers=headers)

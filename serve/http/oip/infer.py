"""POST /v2/models/{name}/infer: texts in; scores and labels, or generated texts out."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve.engine import Engine
from serve.errors import MAX_NAME, InputError, shortened
from serve.http.headers import adapter_headers
from serve.http.oip.messages import InferRequest
from serve.http.oip.tensors import binary_output, check_known, json_output, read_inputs
from serve.http.openapi import request_body
from serve.http.sse import CLIENT_CLOSED_REQUEST, unless_disconnected
from serve.oip.elements import Tensor
from serve.oip.inference import run_inference
from serve.oip.models import Model, find_model
from serve.oip.parameters import merged

HEADER = "Inference-Header-Content-Length"
"""Header that gives the length of the JSON in front of binary data."""
MAX_DIGITS = 12
BINARY_DATA, BINARY_OUTPUT = "binary_data", "binary_data_output"
"""Parameters of an output, and of a request, that ask for data in binary form."""
BINARY = "application/octet-stream"
"""Type of an answer with data in binary form."""
ROUTE: dict[str, Any] = {
    "openapi_extra": request_body(InferRequest),
    "responses": {200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
}
"""Description of the routes in the OpenAPI document."""
router = APIRouter()


@router.post("/v2/models/{name}/infer", **ROUTE)
async def infer(request: Request, name: str) -> Response:
    """Classify texts, or pairs of texts, through one adapter, or generate a text for each prompt.

    Inputs are BYTES with shape (rows,): `text` and `text_pair`; for the model `adamix`, which is all classifiers, also
    the `adapter` of each row; for a model that generates `text_input`. The model's metadata lists its outputs.
    """
    return await _infer(request, name, None)


@router.post("/v2/models/{name}/versions/{version}/infer", **ROUTE)
async def infer_version(request: Request, name: str, version: str) -> Response:
    """Do the same with one version of a model."""
    return await _infer(request, name, version)


async def _infer(request: Request, name: str, version: str | None) -> Response:
    engine: Engine = request.app.state.engine
    model = await find_model(engine, name, version)
    asked, binary = _parsed(await request.body(), request.headers.get(HEADER))
    _require_same("model_name", asked.model_name, name)
    _require_same("model_version", asked.model_version, version)
    parameters = dict(asked.parameters or {})
    binary_names = _binary_outputs(model, asked, everything=parameters.pop(BINARY_OUTPUT, False))
    texts, values = read_inputs(asked.inputs, binary, model.parameters)
    inference = run_inference(
        engine,
        model,
        texts,
        merged(parameters, values),
        [output.name for output in asked.outputs or ()],
        version=version,
        limit=request.app.state.max_client_batch_size,
    )
    found = await (unless_disconnected(request, inference) if model.generates else inference)
    if found is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    content = {
        "model_name": name,
        "model_version": found.version,
        **({} if asked.id is None else {"id": asked.id}),
    }
    return _response(content, found.tensors, binary_names, adapter_headers(found.answers))


def _require_same(field: str, given: str | None, path: str | None) -> None:
    """Raise an InputError if a body names another model or version than the path, as KServe's client never does."""
    if given is not None and given != path:
        told = "the path has none" if path is None else f"the path has {shortened(path, MAX_NAME)}"
        raise InputError(f"{field} is {shortened(given, MAX_NAME)!r}, and {told}: leave it out", field)


def _parsed(body: bytes, header: str | None) -> tuple[InferRequest, bytes]:
    """Return the request and the binary data behind it."""
    if header is None:
        return InferRequest.from_json(body), b""
    if not header.isascii() or not header.isdigit() or len(header) > MAX_DIGITS or int(header) > len(body):
        raise InputError(
            f"{HEADER} is {shortened(header, MAX_DIGITS)!r}: the body has {len(body)} bytes, JSON and data together"
        )
    return InferRequest.from_json(body[: int(header)]), body[int(header) :]


def _binary_outputs(model: Model, asked: InferRequest, *, everything: object) -> set[str]:
    """Return the names of the outputs whose data shall be in binary form."""
    if not isinstance(everything, bool):
        raise InputError(f"parameter {BINARY_OUTPUT} is {everything!r}: it must be of type bool")
    if not asked.outputs:
        return set(model.outputs) if everything else set()
    for output in asked.outputs:
        parameters = output.parameters or {}
        check_known(f"output {output.name!r}", parameters, BINARY_DATA)
        if type(value := parameters.get(BINARY_DATA, False)) is not bool:
            raise InputError(f"parameter {BINARY_DATA} of output {output.name!r} is {value!r}: it must be of type bool")
    return {output.name for output in asked.outputs if (output.parameters or {}).get(BINARY_DATA, everything)}


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
    return Response(start + data, media_type=BINARY, headers=headers)

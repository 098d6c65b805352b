"""POST /v2/models/{name}/generate and generate_stream: Triton's extension for one text, and KServe's form of it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.engine import GenerationEngine
from serve.errors import InputError, ServeError
from serve.generated_text import GenerationResult, StreamEvent, TextDelta
from serve.http.body import Body, FirstError
from serve.http.error_responses import kind_of
from serve.http.headers import adapter_headers
from serve.http.oip.messages import error_body
from serve.http.openapi import EVENTS, request_body
from serve.http.sse import CLIENT_CLOSED_REQUEST, CUT, EventStream, event, first_events, unless_disconnected
from serve.oip.generation import check_single, generate_texts, generation_request, stream_text
from serve.oip.models import Model, find_model, version_of
from serve.oip.outputs import FINISH_REASON, TEXT_OUTPUT
from serve.oip.parameters import STREAM, merged
from serve.requests import GenerationRequest

router = APIRouter()


class GenerateRequest(Body):
    """A prompt to continue; fields beside these are parameters."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"example": {"text_input": "name[Alimentum]", "parameters": {"max_tokens": 20}}},
    )

    text_input: Annotated[str, Field(description="an input of the adapter's task")]
    id: Annotated[str | None, Field(description="comes back in the response")] = None
    parameters: Annotated[
        dict[str, Any] | None,
        FirstError(),
        Field(description="sampling parameters, by the names of /v1/completions; stream"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def keep_one_unknown(cls, body: Any) -> Any:
        """Keep all fields: the parameters' own names are checked later."""
        return body

    def all_parameters(self) -> dict[str, Any]:
        """Return the parameters, inside `parameters` or beside it.

        Raises:
            InputError: One is in both places.
        """
        return merged(self.parameters or {}, self.model_extra or {})


class Generated(BaseModel):
    """A generated text."""

    id: Annotated[str | None, Field(description="if the request has one")] = None
    model_name: str
    model_version: str
    text_output: str
    finish_reason: Annotated[str | None, Field(description="stop or length; in the last event of a stream")] = None
    done: Annotated[bool | None, Field(description="in events of a stream: it is the last one")] = None


BODY = request_body(GenerateRequest)
ROUTE: dict[str, Any] = {"response_model": Generated, "openapi_extra": BODY}
STREAM_ROUTE: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {200: {"content": EVENTS}},
    "openapi_extra": BODY,
}
"""Descriptions of the routes in the OpenAPI document."""


@router.post("/v2/models/{name}/generate", **ROUTE)
async def generate(request: Request, name: str) -> Response:
    """Generate a text, as Triton's generate extension has it."""
    return await _generate(request, name, None)


@router.post("/v2/models/{name}/versions/{version}/generate", **ROUTE)
async def generate_version(request: Request, name: str, version: str) -> Response:
    """Do the same with one version of a model."""
    return await _generate(request, name, version)


async def _generate(request: Request, name: str, version: str | None) -> Response:
    engine: GenerationEngine = request.app.state.engine
    model, body, asked, streams = await _asked(request, name, version)
    if streams:
        raise InputError(f"{STREAM} is true: ask /v2/models/{name}/generate_stream", STREAM)
    results = await unless_disconnected(request, generate_texts(engine, model, asked, version=version))
    if results is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(_whole(_start(body, model, results[0].sha256), results[0]), headers=adapter_headers(results))


@router.post("/v2/models/{name}/generate_stream", **STREAM_ROUTE)
async def generate_stream(request: Request, name: str) -> Response:
    """Generate a text in pieces, as server-sent events; with `stream` false in one.

    An error before the first piece is an ordinary error response; a later one is an event with its body.
    """
    return await _stream(request, name, None)


@router.post("/v2/models/{name}/versions/{version}/generate_stream", **STREAM_ROUTE)
async def generate_stream_version(request: Request, name: str, version: str) -> Response:
    """Do the same with one version of a model."""
    return await _stream(request, name, version)


async def _stream(request: Request, name: str, version: str | None) -> Response:
    engine: GenerationEngine = request.app.state.engine
    model, body, asked, streams = await _asked(request, name, version)
    events = stream_text(engine, model, asked, version=version)
    first = await first_events(request, events)
    if first is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    start, piece = first
    written = _server_sent(_start(body, model, start.sha256), piece, events, whole=streams is False)
    return EventStream(written, at_cut=_failed(CUT), headers=adapter_headers([start]))


async def _asked(
    request: Request, name: str, version: str | None
) -> tuple[Model, GenerateRequest, GenerationRequest, bool | None]:
    """Return the model, the body, the engine's request, and whether the body asks for a stream (None: neither)."""
    model = await find_model(request.app.state.engine, name, version)
    body = GenerateRequest.from_json(await request.body())
    parameters = body.all_parameters()
    streams = parameters.pop(STREAM, None)
    if not isinstance(streams, bool | None):
        raise InputError(f"{STREAM} is not true or false", STREAM)
    asked = generation_request(model, [body.text_input], parameters, limit=request.app.state.max_client_batch_size)
    check_single(asked)
    return model, body, asked, streams


def _start(body: GenerateRequest, model: Model, sha256: str) -> dict[str, Any]:
    """Return the fields that all answers to a request have."""
    named = {} if body.id is None else {"id": body.id}
    return {**named, "model_name": model.name, "model_version": version_of(sha256)}


def _whole(start: dict[str, Any], result: GenerationResult) -> dict[str, Any]:
    return {**start, TEXT_OUTPUT: result.text, FINISH_REASON: str(result.finish_reason)}


def _failed(error: ServeError) -> str:
    """Return the event that ends a stream that fails."""
    return event(error_body(str(error), kind_of(error), None))


async def _server_sent(
    start: dict[str, Any], first: StreamEvent, events: AsyncGenerator[StreamEvent, None], *, whole: bool
) -> AsyncGenerator[str, None]:
    """Yield each piece of the text, or with `whole` all of it at once; an error ends the stream with its body."""
    sent, last = "", first
    async with aclosing(events):
        try:
            while isinstance(last, TextDelta):
                if not whole:
                    sent += last.text
                    yield event({**start, TEXT_OUTPUT: last.text, "done": False})
                last = await anext(events)
        except ServeError as error:
            yield _failed(error)
            return
    assert isinstance(last, GenerationResult)
    yield event({**_whole(start, last), TEXT_OUTPUT: last.text[len(sent) :], "done": True})

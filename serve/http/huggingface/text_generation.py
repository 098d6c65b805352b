"""Generation as Hugging Face's inference API and text-generation-inference have it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from serve.engine import GenerationEngine
from serve.errors import ServeError, in_client_words
from serve.generated_text import GenerationResult, StreamEvent, TextDelta
from serve.http.error_responses import kind_of
from serve.http.headers import adapter_headers
from serve.http.huggingface.generation_messages import TextGenerationInput, delta, last, whole
from serve.http.sse import CLIENT_CLOSED_REQUEST, CUT, EventStream, event, first_events, unless_disconnected
from serve.http.tei.predict import error_body
from serve.requests import GenerationRequest

FIELD_NAMES = {"prompts": "inputs", "adapter": "adapter_id", "max_prompt_tokens": "truncate", "json_schema": "grammar"}
"""This protocol's names of the engine's fields."""


async def generate(request: Request, name: str | None) -> Response:
    """Return a list of one text, or a stream; a client that disconnects cancels it."""
    body = TextGenerationInput.from_json(await request.body())
    request.state.field_names = FIELD_NAMES
    asked = body.generation_request(name)
    if body.stream:
        return await _stream(request, asked, body)
    engine: GenerationEngine = request.app.state.engine
    results = await unless_disconnected(request, engine.generate(asked))
    if results is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse([whole(results[0], body.options)], headers=adapter_headers(results))


async def _stream(request: Request, asked: GenerationRequest, body: TextGenerationInput) -> Response:
    """Return the stream; an error before the first piece of text is an ordinary error response."""
    engine: GenerationEngine = request.app.state.engine
    events = engine.stream(asked)
    begun = await first_events(request, events)
    if begun is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    start, first = begun
    return EventStream(_written(first, events, body), at_cut=_failed(CUT), headers=adapter_headers([start]))


async def _written(
    first: StreamEvent, events: AsyncGenerator[StreamEvent, None], body: TextGenerationInput
) -> AsyncGenerator[str, None]:
    """Yield the events; an error ends them with an event that has its body."""
    async with aclosing(events):
        try:
            for text in _texts(first, body):
                yield text
            async for one in events:
                for text in _texts(one, body):
                    yield text
        except ServeError as error:
            yield _failed(error)


def _failed(error: ServeError) -> str:
    """Return the event that ends a stream that fails."""
    message, param = in_client_words(error, FIELD_NAMES)
    return event(error_body(message, kind_of(error), param))


def _texts(one: StreamEvent, body: TextGenerationInput) -> list[str]:
    match one:
        case TextDelta() if one.logprobs:
            return [event(message) for message in delta(one)]
        case GenerationResult():
            return [event(last(one, body.options))]
    return []

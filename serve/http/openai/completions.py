"""POST /v1/completions: an adapter is a model."""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serve.engine import GenerationEngine, GenerationResult, StreamEvent, StreamStart, TextDelta
from serve.errors import ServeError
from serve.http.error_responses import kind_of
from serve.http.openai.protocol import Choice, Completion, CompletionRequest, Usage, error_body
from serve.http.openapi import request_body
from serve.http.sse import CLIENT_CLOSED_REQUEST, DONE, event, unless_disconnected
from serve.requests import GenerationRequest

router = APIRouter()


@router.post("/v1/completions", response_model=Completion, openapi_extra=request_body(CompletionRequest))
async def completions(request: Request) -> Response:
    """Generate a text for each prompt, through an adapter of the bank.

    The headers `X-Adapter` and `X-Adapter-Sha256` name the adapter that generated. A client that disconnects cancels
    its sequences.
    """
    body = CompletionRequest.model_validate_json(await request.body())
    asked = body.generation_request(request.app.state.max_client_batch_size)
    engine: GenerationEngine = request.app.state.engine
    if body.stream:
        return await _stream(request, engine.stream(asked), include_usage=body.include_usage)
    return await _complete(request, engine, asked)


async def _complete(request: Request, engine: GenerationEngine, asked: GenerationRequest) -> Response:
    results = await unless_disconnected(request, engine.generate(asked))
    if results is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    completion = _new_completion(results[0].adapter)
    completion.choices = [Choice.of(index, result) for index, result in enumerate(results)]
    completion.usage = Usage.of(results, asked.sampling.n)
    return JSONResponse(completion.model_dump(), headers=_adapter_headers(results[0]))


async def _stream(request: Request, events: AsyncGenerator[StreamEvent, None], *, include_usage: bool) -> Response:
    """Return the streaming response; an error before the first piece of text is an ordinary error response."""
    start = await unless_disconnected(request, anext(events))
    first = None if start is None else await unless_disconnected(request, anext(events))
    if first is None:
        await events.aclose()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    assert isinstance(start, StreamStart)
    content = _server_sent(_new_completion(start.adapter), first, events, include_usage=include_usage)
    return StreamingResponse(content, media_type="text/event-stream", headers=_adapter_headers(start))


async def _server_sent(
    completion: Completion, first: StreamEvent, events: AsyncGenerator[StreamEvent, None], *, include_usage: bool
) -> AsyncIterator[str]:
    """Yield a stream's events as server-sent events; an error ends it with an event that has its body."""
    async with aclosing(events):
        try:
            for text in _chunks(completion, first, include_usage=include_usage):
                yield text
            async for one in events:
                for text in _chunks(completion, one, include_usage=include_usage):
                    yield text
        except ServeError as error:
            yield event(error_body(str(error), kind_of(error), None))
            return
    yield DONE


def _chunks(completion: Completion, one: StreamEvent, *, include_usage: bool) -> list[str]:
    match one:
        case TextDelta(text):
            return [_chunk(completion, Choice(index=0, text=text, finish_reason=None))]
        case GenerationResult():
            chunks = [_chunk(completion, Choice(index=0, text="", finish_reason=one.finish_reason))]
            if include_usage:
                chunks.append(event(completion.model_copy(update={"usage": Usage.of([one], 1)}).model_dump()))
            return chunks
    return []


def _chunk(completion: Completion, choice: Choice) -> str:
    return event(completion.model_copy(update={"choices": [choice]}).model_dump())


def _new_completion(model: str) -> Completion:
    return Completion(id=f"cmpl-{uuid.uuid4().hex}", created=int(time.time()), model=model, choices=[])


def _adapter_headers(answer: GenerationResult | StreamStart) -> dict[str, str]:
    return {"X-Adapter": answer.adapter, "X-Adapter-Sha256": answer.sha256}

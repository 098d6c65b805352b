"""POST /v1/completions and GET /v1/models, as OpenAI has them: an adapter is a model.

Beyond OpenAI's, a request has the names that vLLM has for `top_k`, `min_p` and `repetition_penalty`, and those of
`Sampling` for the rest.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serve.errors import InputError, ServeError
from serve.generation.async_text_generator import AsyncGenerator as Writer
from serve.generation.request import Generation
from serve.generation.result import one_answer
from serve.http.error_responses import body_of
from serve.http.openai.protocol import BODY, Choice, Completion, CompletionRequest, Usage
from serve.http.sse import CLOSED_REQUEST, _all, _event, _unless_gone

router = APIRouter()


@router.post("/v1/completions", response_model=Completion, openapi_extra=BODY)
async def completions(request: Request) -> Response:
    """Write a text for each input, through an adapter of the bank.

    The headers `X-Adapter` and `X-Adapter-Sha256` say which adapter wrote. A client that leaves frees its rows.
    """
    body = CompletionRequest.model_validate_json(await request.body())
    engine: Writer = request.app.state.engine
    inputs = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    most = request.app.state.max_client_rows
    if not 1 <= len(inputs) * body.n <= most:
        raise InputError(f"{len(inputs)} prompts with n {body.n}: ask for 1 to {most} texts in one request")
    sampling = one_answer(body.sampling()) if body.stream else body.sampling()
    if body.stream and len(inputs) > 1:
        raise InputError(f"{len(inputs)} prompts: a stream has one answer")
    prompts = await engine.prompts(inputs, body.model, answers=body.n, truncate=body.truncate)
    generations = await _unless_gone(request, engine.generations(prompts, sampling))
    if generations is None:
        return Response(status_code=CLOSED_REQUEST)
    card = prompts[0].adapter.card
    headers = {"X-Adapter": card.name, "X-Adapter-Sha256": card.sha256}
    answer = Completion(id=f"cmpl-{uuid.uuid4().hex}", created=int(time.time()), model=card.name, choices=[])
    if body.stream:
        (generation,) = generations
        usage = bool((body.stream_options or {}).get("include_usage"))
        events = _events(engine, generation, answer, with_usage=usage)
        # Whatever refuses a text does so before there is a status.
        first = await _unless_gone(request, anext(events))
        if first is None:
            await events.aclose()
            return Response(status_code=CLOSED_REQUEST)
        return StreamingResponse(_all(first, events), media_type="text/event-stream", headers=headers)
    if await _unless_gone(request, engine.write(generations)) is None:
        return Response(status_code=CLOSED_REQUEST)
    choices = [_choice(engine, index, generation) for index, generation in enumerate(generations)]
    return JSONResponse(
        answer.model_copy(update={"choices": choices, "usage": _usage(generations, sampling.n)}).model_dump(),
        headers=headers,
    )


async def _events(
    engine: Writer, generation: Generation, answer: Completion, *, with_usage: bool
) -> AsyncGenerator[str, None]:
    """Yield the events of a stream; one that fails under way ends with an event that says why."""

    def event(text: str, reason: str | None = None) -> str:
        choice = Choice(index=0, text=text, finish_reason=reason)
        return _event(answer.model_copy(update={"choices": [choice]}).model_dump())

    sent = False
    try:
        async with aclosing(engine.follow(generation)) as pieces:
            async for piece in pieces:
                sent = True
                yield event(piece)
    except ServeError as error:
        if not sent:
            raise
        yield _event(body_of(error))
        return
    yield event("", generation.ended)
    if with_usage:
        yield _event(answer.model_copy(update={"usage": _usage([generation], 1)}).model_dump())
    yield "data: [DONE]\n\n"


def _choice(engine: Writer, index: int, generation: Generation) -> Choice:
    logprobs = _logprobs(engine, generation) if generation.logprobs else None
    return Choice(index=index, text=generation.text, finish_reason=generation.ended, logprobs=logprobs)


def _logprobs(engine: Writer, generation: Generation) -> dict[str, Any]:
    """Return the four lists that OpenAI's completions have, with the tokens' texts: of the tokens that the text has."""
    name, stream = engine.model.token_text, generation.stream
    count = sum(offset < len(stream.text) for offset in stream.offsets) if stream.stopped else len(stream.offsets)
    found = generation.logprobs[:count]
    return {
        "tokens": [name(token) for token in generation.tokens[:count]],
        "token_logprobs": [one.chosen for one in found],
        "top_logprobs": [{name(token): value for token, value in one.likeliest} for one in found],
        "text_offset": stream.offsets[:count],
    }


def _usage(generations: Sequence[Generation], answers: int) -> Usage:
    """Return what was read, each prompt once, and written."""
    read = sum(len(generation.reads) for generation in generations[::answers])
    wrote = sum(len(generation.tokens) for generation in generations)
    return Usage(prompt_tokens=read, completion_tokens=wrote, total_tokens=read + wrote)

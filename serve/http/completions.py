"""POST /v1/completions and GET /v1/models, as OpenAI has them: an adapter is a model.

Beyond OpenAI's, a request has the names that vLLM has for `top_k`, `min_p` and `repetition_penalty`, and those of
`Sampling` for the rest.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serve.errors import InputError, ServeError
from serve.generate import BASE, one_answer
from serve.generation import Generation
from serve.http.body import Body, FirstFault, Strings
from serve.http.errors import body_of
from serve.live import AsyncGenerator as Writer
from serve.sampling import Sampling, check_biases

router = APIRouter()
Done = TypeVar("Done")
CLOSED_REQUEST = 499
"""The status of a request whose client has left; nobody reads it."""


class ResponseFormat(BaseModel):
    """JSON of a schema instead of free text."""

    type: Annotated[str, Field(pattern="^json_schema$", description="json_schema is the one there is")]
    json_schema: Annotated[dict[str, Any], Field(description='{"schema": …}')]


def _checked_biases(given: Any) -> Any:
    """Refuse more tokens than may be named before they are made numbers, which can be chosen to be slow as keys."""
    if isinstance(given, dict):
        check_biases(given)
    return given


class CompletionRequest(Body):
    """Inputs to write texts for."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "e2e", "prompt": "name[Alimentum], area[city centre]"}}
    )

    prompt: Annotated[str | Strings, Field(description="an input as the adapter's task has it, or several")]
    model: Annotated[
        str | None, Field(description=f"the adapter, or `{BASE}` for the base itself; optional if there is one only")
    ] = None
    truncate: Annotated[bool, Field(description="cut prompts that are too long instead of refusing them")] = False
    max_tokens: Annotated[int | None, Field(description="64 by default, or what the context leaves")] = None
    temperature: Annotated[float, Field(description="0, the default, takes the likeliest token")] = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Annotated[
        dict[int, float], FirstFault(), BeforeValidator(_checked_biases), Field(description="by token id")
    ] = Field(default_factory=dict)
    stop: str | Strings = Field(default_factory=list)
    logprobs: Annotated[int | None, Field(description="of each token, and of so many of the likeliest")] = None
    seed: int | None = None
    n: int = 1
    beams: Annotated[int, Field(description="more than 1 searches for the likeliest text")] = 1
    length_penalty: Annotated[float, Field(description="of a search with beams")] = 1.0
    response_format: ResponseFormat | None = None
    stream: Annotated[bool, Field(description="send the text piece by piece, as server-sent events")] = False
    stream_options: Annotated[dict[str, bool], FirstFault()] | None = None
    user: Annotated[str | None, Field(description="not used")] = None

    @model_validator(mode="before")
    @classmethod
    def leave_out_nulls(cls, body: Any) -> Any:
        """Take null for what was not given, as OpenAI's clients send it."""
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body

    def sampling(self) -> Sampling:
        """Return what is asked for; an error if it cannot be."""
        form = self.response_format
        if form is not None and not isinstance(form.json_schema.get("schema"), dict):
            raise InputError('response_format.json_schema has no schema: {"schema": {…}}')
        if self.stream and self.logprobs is not None:
            raise InputError("logprobs do not come with a stream: ask for them without")
        renamed: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "json_schema": None if form is None else form.json_schema["schema"],
        }
        same = Sampling.__dataclass_fields__.keys() & type(self).model_fields.keys() - renamed.keys()
        return Sampling(**{name: getattr(self, name) for name in same}, **renamed)


class Choice(BaseModel):
    """One text."""

    index: int
    text: str
    finish_reason: Annotated[str | None, Field(description="stop or length; null while a stream goes on")]
    logprobs: dict[str, Any] | None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answer, or an event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": CompletionRequest.model_json_schema()}},
    }
}


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


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List the adapters, and the base if it can be asked."""
    generator = request.app.state.engine.model
    cards = list(generator.cards.values())
    names = [card.name for card in cards]
    if generator.base is not None and BASE not in names:
        cards.append(generator.base.card)
    parent = generator.bundle.manifest.base["name"]
    return {
        "object": "list",
        "data": [
            {"id": card.name, "object": "model", "owned_by": "adamix", "root": card.sha256, "parent": parent}
            for card in cards
        ],
    }


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


async def _all(first: str, events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    """Yield an event that was awaited already, and then the others."""
    async with aclosing(events) as rest:
        yield first
        async for event in rest:
            yield event


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _unless_gone(request: Request, work: Awaitable[Done]) -> Done | None:
    """Return what work comes to, or None if the client has left before it is done."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait({working})
    return None


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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

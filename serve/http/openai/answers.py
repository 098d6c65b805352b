"""Answers to a request for texts, whole or streamed, in the messages of an API."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from serve.engine import GenerationEngine
from serve.errors import ServeError, in_client_words
from serve.generated_text import GenerationResult, StreamEvent, StreamStart, TextDelta
from serve.http.error_responses import kind_of
from serve.http.headers import adapter_headers
from serve.http.openai.protocol import StreamOptions, Usage, error_body
from serve.http.sse import CLIENT_CLOSED_REQUEST, CUT, DONE, EventStream, event, first_events, unless_disconnected
from serve.requests import GenerationRequest


class MessageForm(Protocol):
    """The messages of an API that answer one request."""

    def whole(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """Return the response."""

    def opening(self, start: StreamStart) -> list[dict[str, Any]]:
        """Return the events that a stream begins with."""

    def delta(self, start: StreamStart, one: TextDelta) -> list[dict[str, Any]]:
        """Return the events of a piece of text."""

    def last(self, start: StreamStart, result: GenerationResult) -> list[dict[str, Any]]:
        """Return the events that end a text."""

    def usage(self, start: StreamStart, usage: Usage) -> dict[str, Any]:
        """Return the event behind the last text, which has the usage and no choices."""


async def complete(request: Request, asked: GenerationRequest, form: MessageForm) -> Response:
    """Return the response to a request; a client that disconnects cancels it."""
    engine: GenerationEngine = request.app.state.engine
    results = await unless_disconnected(request, engine.generate(asked))
    if results is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(form.whole(results), headers=adapter_headers(results[:1]))


async def stream(request: Request, asked: GenerationRequest, form: MessageForm, options: StreamOptions) -> Response:
    """Return the streaming response; an error before the first piece of text is an ordinary error response."""
    engine: GenerationEngine = request.app.state.engine
    events = engine.stream(asked)
    begun = await first_events(request, events)
    if begun is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    start, first = begun
    written = StreamWriter(form, start, options, request.state.field_names)
    return EventStream(written.server_sent(first, events), at_cut=written.failed(CUT), headers=adapter_headers([start]))


class StreamWriter:
    """Writes the events of an engine's stream as server-sent events."""

    def __init__(
        self, form: MessageForm, start: StreamStart, options: StreamOptions, field_names: Mapping[str, str]
    ) -> None:
        self.form, self.start, self.options, self.field_names = form, start, options, field_names
        self.generated: dict[int, int] = {}
        """Tokens of each text so far."""

    async def server_sent(
        self, first: StreamEvent, events: AsyncGenerator[StreamEvent, None]
    ) -> AsyncGenerator[str, None]:
        """Yield the events; an error ends them with an event that has its body."""
        async with aclosing(events):
            try:
                for text in self._opening(first):
                    yield text
                async for one in events:
                    for text in self._written(one):
                        yield text
            except ServeError as error:
                yield self.failed(error)
                return
        if self.options.include_usage:
            yield event(self.form.usage(self.start, self._usage()))
        yield DONE

    def failed(self, error: ServeError) -> str:
        """Return the events that end a stream that fails."""
        message, param = in_client_words(error, self.field_names)
        return event(error_body(message, kind_of(error), param)) + DONE

    def _opening(self, first: StreamEvent) -> list[str]:
        return [*map(self._event, self.form.opening(self.start)), *self._written(first)]

    def _written(self, one: StreamEvent) -> list[str]:
        match one:
            case TextDelta():
                self.generated[one.index] = self.generated.get(one.index, 0) + len(one.tokens)
                return [self._event(message) for message in self.form.delta(self.start, one)]
            case GenerationResult():
                self.generated[one.index] = len(one.tokens)
                return [self._event(message) for message in self.form.last(self.start, one)]
        return []

    def _event(self, message: dict[str, Any]) -> str:
        if self.options.continuous_usage_stats:
            message["usage"] = self._usage().model_dump()
        return event(message)

    def _usage(self) -> Usage:
        return Usage.counted(self.start.prompt_tokens, sum(self.generated.values()))

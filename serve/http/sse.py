"""Server-sent events, and clients that disconnect."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from serve.errors import ShuttingDown
from serve.generated_text import StreamEvent, StreamStart

Result = TypeVar("Result")
LINE_ENDS = {place: f"\\u{place:04x}" for place in (0x85, 0x2028, 0x2029)}
"""Escapes of the characters that some client takes for the end of a line, and that JSON leaves as they are."""
DONE = "data: [DONE]\n\n"
"""The last event of a stream in OpenAI's API."""
CUT = ShuttingDown("the server stopped before this was answered; send the request to another one")
"""Error of a request that is cancelled when the time to exit is over."""
CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client has disconnected; nobody receives it."""


def event(content: dict[str, Any]) -> str:
    """Return a server-sent event with JSON content."""
    return f"data: {json.dumps(content, ensure_ascii=False).translate(LINE_ENDS)}\n\n"


class EventStream(StreamingResponse):
    """A response of server-sent events, which ends with an event also where the server cuts it off."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], *, at_cut: str, headers: Mapping[str, str]) -> None:
        """Describe a response.

        Args:
            events: The events; they are closed with the response, however that ends.
            at_cut: Events to end with if the server cancels the response: it does so when its time to exit is over.
            headers: Headers of the response.
        """
        super().__init__(events, headers=headers)
        self.events, self.at_cut = events, at_cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with aclosing(self.events):
                await super().__call__(scope, receive, note)
        except asyncio.CancelledError:
            if not begun:
                raise
            await send({"type": "http.response.body", "body": self.at_cut.encode(), "more_body": False})


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result | None:
    """Return the result of `work`, or cancel it and return None if the client disconnects first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait({working})
    return None


async def first_events(
    request: Request, events: AsyncGenerator[StreamEvent, None]
) -> tuple[StreamStart, StreamEvent] | None:
    """Return the first two events of a stream, so that an error before any text is an ordinary response.

    None, with the stream closed, if the client disconnects first.
    """
    start = await unless_disconnected(request, anext(events))
    first = None if start is None else await unless_disconnected(request, anext(events))
    if first is None:
        await events.aclose()
        return None
    assert isinstance(start, StreamStart)
    return start, first


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

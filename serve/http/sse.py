"""Server-sent events, and clients that disconnect."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from fastapi import Request

from serve.generated_text import StreamEvent, StreamStart

Result = TypeVar("Result")
LINE_ENDS = {place: f"\\u{place:04x}" for place in (0x85, 0x2028, 0x2029)}
"""Escapes of the characters that some client takes for the end of a line, and that JSON leaves as they are."""
DONE = "data: [DONE]\n\n"
"""The last event of a stream in OpenAI's API."""
CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client has disconnected; nobody receives it."""


def event(content: dict[str, Any]) -> str:
    """Return a server-sent event with JSON content."""
    return f"data: {json.dumps(content, ensure_ascii=False).translate(LINE_ENDS)}\n\n"


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

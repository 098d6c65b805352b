"""Server-sent events, and clients that disconnect."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import Request

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


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

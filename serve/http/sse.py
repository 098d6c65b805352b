"""Server-sent events, and clients that leave."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request

Done = TypeVar("Done")
CLOSED_REQUEST = 499
"""The status of a request whose client has left; nobody reads it."""


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

"""ASGI between processes: a request as a scope and a body, a response as its messages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Receive, Send], Awaitable[None]]
PLAIN = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
         "client", "server")  # fmt: skip
"""Keys of a scope that other processes can read."""
START = "http.response.start"
REQUEST_ID = b"x-request-id"
"""Header that Ray's proxy adds, to requests and to responses; a server here has the id of the request."""


def plain_scope(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scope without what only its own process can use."""
    return {key: scope[key] for key in PLAIN if key in scope}


async def answer(application: Asgi, scope: Mapping[str, Any], body: bytes) -> AsyncIterator[list[Message]]:
    """Yield the messages of an application's response, those together that are there together.

    Ending the iteration early tells the application that its client has gone, and cancels it.
    """
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await application(dict(scope), receive, messages.put)
        finally:
            messages.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while found := await _together(messages):
            yield found
        await task
    finally:
        gone.set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _together(messages: "asyncio.Queue[Message | None]") -> list[Message]:
    """Return the messages that are there, at least one and not a start alone; none after the last."""
    found: list[Message] = []
    while not found or found[-1]["type"] == START or not messages.empty():
        message = await messages.get()
        if message is None:
            if found:
                messages.put_nowait(None)
            break
        found.append(message)
    return found


def behind_ray(application: Asgi) -> Asgi:
    """Return an application that reads paths without Ray Serve's prefix, and leaves the request's id to its proxy."""

    async def call(scope: Any, receive: Receive, send: Send) -> None:
        async def send_without_id(message: Message) -> None:
            if message["type"] == START:
                headers = [(name, value) for name, value in message["headers"] if name.lower() != REQUEST_ID]
                message = {**message, "headers": headers}
            await send(message)

        if (prefix := scope.get("root_path", "")) and scope["path"].startswith(prefix):
            scope = {**scope, "path": scope["path"][len(prefix) :] or "/"}
        await application(scope, receive, send_without_id)

    return call


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Complete the start and the end of an application that has nothing to do in either."""
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})

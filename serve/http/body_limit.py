"""ASGI middleware that reads a request's body, in bounded time and memory."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.error_responses import OUT_OF_MEMORY, PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT, ErrorResponder

LINGER_SECONDS = 5.0
"""Time in which a body that is refused is read on."""


class OutOfMemory(Exception):
    """The bodies of all requests are over their limit."""


class TooLarge(Exception):
    """A body is over its limit, or is announced to be."""


@dataclass
class Taken:
    """The bytes of one body that are held."""

    bytes: int = 0


class BodyLimitMiddleware:
    """Return 413 for a body of more than `limit` bytes, and 408 for one that is not there in time.

    One that is announced to be larger is refused before any of it is read, others where they go over the limit.

    Where bodies of all requests have more than `total_limit` bytes, one that goes on arriving gets 503.
    """

    def __init__(self, app: ASGIApp, limit: int, total_limit: int, timeout: float, errors: ErrorResponder) -> None:
        self.app, self.limit, self.total_limit, self.timeout, self.errors = app, limit, total_limit, timeout, errors
        self.total = 0
        """Bytes of the bodies of all requests that are being read or answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its body read up to the limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        taken = Taken()
        try:
            body = await self._body(taken, scope, receive, send)
            if body is None:
                return
            replayed = False

            async def replay() -> Message:
                nonlocal replayed
                if replayed:
                    return await receive()
                replayed = True
                return {"type": "http.request", "body": body, "more_body": False}

            await self.app(scope, replay, send)
        finally:
            self.total -= taken.bytes

    async def _body(self, taken: Taken, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """Return the body of a request, or None if the client has disconnected or an error has been sent to it."""
        try:
            if (announced_bytes(scope) or 0) > self.limit:
                raise TooLarge
            async with asyncio.timeout(self.timeout):
                return await self._read(taken, receive)
        except TimeoutError:
            text = f"the body has not arrived within {self.timeout:g} s: send it faster, or less at once"
            await closing(self.errors.response(scope["path"], text, REQUEST_TIMEOUT))(scope, receive, send)
        except OutOfMemory:
            text = f"the bodies of all requests have more than {self.total_limit} bytes: try again later"
            await refuse(self.errors.response(scope["path"], text, OUT_OF_MEMORY), scope, receive, send)
        except TooLarge:
            text = f"the request has more than {self.limit} bytes: send less at once"
            await refuse(self.errors.response(scope["path"], text, PAYLOAD_TOO_LARGE), scope, receive, send)
        return None

    async def _read(self, taken: Taken, receive: Receive) -> bytes | None:
        """Return the body; None if the client disconnects."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            body += part
            taken.bytes += len(part)
            self.total += len(part)
            if len(body) > self.limit:
                raise TooLarge
            if self.total > self.total_limit:
                raise OutOfMemory
            more = message.get("more_body", False)
        return bytes(body)


def announced_bytes(scope: Scope) -> int | None:
    """Return the length that a request says its body has; None if it says none."""
    found = [value for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    return int(found[0]) if found else None


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response before the body is there, and end the connection.

    What a client is sending is read for `LINGER_SECONDS` more: a connection with bytes that nobody has read is reset,
    and a response that the client has not read may be lost with it. One that waits to be told to go on sends nothing.
    """
    closing(response)
    if any(name == b"expect" for name, _ in scope["headers"]):
        await response(scope, receive, send)
        return

    async def send_open(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    await response(scope, receive, send_open)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def closing(response: Response) -> Response:
    """Return a response that ends the connection: the rest of a body that nobody reads would keep it open."""
    response.headers["Connection"] = "close"
    return response

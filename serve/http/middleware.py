"""Refuse bodies that are too large, answer what the server's end cuts off, and count and time every request."""

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.error_responses import answer
from serve.telemetry.prometheus import Metrics


class PayloadLimit:
    """ASGI middleware: 413 for a body of more than `limit` bytes, be it announced or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its body read up to the limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limit:
                text = f"the request has more than {self.limit} bytes: send less at once"
                await answer(413, text, "payload_too_large")(scope, receive, send)
                return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


class AnswerAtTheEnd:
    """ASGI middleware: 503 for a request whose task is cancelled, if no answer has begun.

    The server does that when its time to exit is over, and never before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except asyncio.CancelledError:
            if scope["type"] != "http" or begun:
                raise
            text = "the server stopped before this was answered; send the request to another one"
            await answer(503, text, "draining")(scope, receive, send)


class CountRequests:
    """ASGI middleware: status codes and seconds of the requests that do work."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it ended."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(str(message["status"])).inc()
                self.metrics.request_seconds.observe(time.monotonic() - started)
            await send(message)

        await self.app(scope, receive, note)

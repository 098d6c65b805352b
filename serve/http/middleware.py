"""ASGI middleware: make requests plain, answer those that shutdown cancels, count and time them."""

import asyncio
import math
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import DeadlineExceeded, ShuttingDown, shortened
from serve.http.body_limit import closing, refuse
from serve.http.error_responses import (
    INTERNAL,
    INVALID,
    UNSUPPORTED_CODING,
    UNSUPPORTED_ENCODING,
    ErrorResponder,
    kind_of,
)
from serve.http.sse import CLIENT_CLOSED_REQUEST, CUT
from serve.queue_wait import client_deadline
from serve.readiness import Readiness
from serve.telemetry.prometheus import Metrics

PAGES = frozenset({"/docs", "/openapi.json"})
"""Paths whose answers hold the path that a proxy has the server under."""
ENCODINGS = {
    b"content-encoding": ("identity", UNSUPPORTED_ENCODING),
    b"transfer-encoding": ("chunked", UNSUPPORTED_CODING),
}
"""Headers that name what was done to a body, each with the only value that is taken and the error of others."""
TIMEOUT_HEADER = b"x-request-timeout"
CONNECTION_STATUS = "adamix.connection_status"
"""Key of a request's scope: the status that its connection sent in the application's place."""


class PlainRequestMiddleware:
    """Treat HEAD as GET and a slash at the end of a path as none, and refuse a compressed body.

    The path that a proxy has the server under is taken away, so that paths are those of the routes.
    """

    def __init__(self, app: ASGIApp, errors: ErrorResponder, first_segments: frozenset[str] = frozenset()) -> None:
        """Wrap an application, whose routes have these first segments."""
        self.app, self.errors, self.first_segments = app, errors, first_segments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the server leaves out the body of a response to HEAD."""
        if scope["type"] == "http":
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            prefix, path = scope.get("root_path", ""), plain_path(scope, self.first_segments)
            scope = {**scope, "method": method, "path": path}
            if prefix:  # else Starlette would take it away from paths that begin as it does; pages have links below it
                scope |= {"path": prefix + path} if path in PAGES else {"root_path": ""}
            for name, (plain, kind) in ENCODINGS.items():
                given = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
                if other := [encoding for encoding in given if encoding.strip().lower() != plain]:
                    text = f"the body has the encoding {shortened(other[0], 64)}: send it without"
                    await refuse(self.errors.response(path, text, kind), scope, receive, send)
                    return
        await self.app(scope, receive, send)


def plain_path(scope: Scope, first_segments: frozenset[str] = frozenset()) -> str:
    """Return a request's path as routes have it.

    The server puts the prefix in front of every path, also of one that a proxy has left it on. Where a prefix begins as
    a route does, such as /v1, paths are those that a proxy sends which takes it away.
    """
    prefix, path = scope.get("root_path", ""), scope["path"]
    if prefix:
        path = path.removeprefix(prefix)
        inner = path.removeprefix(prefix)
        if inner != path and inner[:1] in ("", "/") and prefix.split("/")[1] not in first_segments:
            path = inner
    return path.rstrip("/") or "/"


class ShutdownMiddleware:
    """Return 503 for a request that comes too late, or whose task is cancelled before its response has begun.

    The server cancels tasks only when the time to exit is over. Streams of events end by themselves (`EventStream`).
    Once it has been told to stop, each response closes its connection, so that no request comes on one that is about to
    be closed.
    """

    def __init__(self, app: ASGIApp, errors: ErrorResponder, readiness: Readiness) -> None:
        self.app, self.errors, self.readiness = app, errors, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start" and self.readiness.closes_connections:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        if self.readiness.is_closed and scope.get("method") == "POST":
            response = self.errors.error_response(scope["path"], ShuttingDown("the server is stopping"))
            await response(scope, receive, note)
            return
        try:
            await self.app(scope, receive, note)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not begun:
                await self.errors.response(scope["path"], str(CUT), kind_of(CUT))(scope, receive, send)


class ClientDeadlineMiddleware:
    """Return 504 for a request whose client waits no longer, and end its work; `X-Request-Timeout` has its seconds.

    A queue refuses at once what it could not begin by then; a stream that has begun is finished.
    """

    def __init__(self, app: ASGIApp, errors: ErrorResponder) -> None:
        self.app, self.errors = app, errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its deadline for the queues."""
        client_deadline.set(None)  # of a request before, on the same connection
        text = dict(scope["headers"]).get(TIMEOUT_HEADER) if scope.get("method") == "POST" else None
        if text is None:
            await self.app(scope, receive, send)
            return
        seconds = _seconds(text)
        if seconds is None:
            told = f"X-Request-Timeout: {shortened(text.decode('latin-1'), 32)} is no number of seconds above 0"
            await refuse(self.errors.response(scope["path"], told, INVALID), scope, receive, send)
            return
        client_deadline.set(time.monotonic() + seconds)
        try:
            async with asyncio.timeout(seconds) as timeout:

                async def note(message: Message) -> None:
                    timeout.reschedule(None)
                    await send(message)

                await self.app(scope, receive, note)
        except TimeoutError:
            if not timeout.expired():
                raise
            error = DeadlineExceeded(f"not answered within the {seconds:g} s of X-Request-Timeout")
            await closing(self.errors.response(scope["path"], str(error), kind_of(error)))(scope, receive, send)


def unanswered_status(scope: Scope) -> int:
    """Return the status of a request that ended without a response: the one that its connection sent, or else 499."""
    status: int = scope.get(CONNECTION_STATUS, CLIENT_CLOSED_REQUEST)
    return status


def _seconds(text: bytes) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


class RequestMetricsMiddleware:
    """Count methods, status codes and seconds of POST requests; a stream's end with the stream."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and record its status and time, before the last part of its response is sent."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status, counted = 0, False

        def count(code: int) -> None:
            nonlocal counted
            if not counted:
                counted = True
                self.metrics.request_finished(scope["method"], str(code), time.monotonic() - started)

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                count(status)
            await send(message)

        try:
            await self.app(scope, receive, note)
            count(status or unanswered_status(scope))
        finally:
            count(status or INTERNAL.status)  # of a bug, whose response comes from beyond all middleware

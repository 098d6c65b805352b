"""ASGI middleware around all other: give every request an id, which its answer has, and log and trace it."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.api_key_middleware import OPEN
from serve.http.body_limit import announced_bytes
from serve.http.error_responses import INTERNAL
from serve.http.headers import REQUEST_ID, TRACERESPONSE
from serve.http.middleware import plain_path, unanswered_status
from serve.request_context import RequestContext
from serve.telemetry.exchange import Exchange
from serve.telemetry.request_observer import RequestObserver

GIVEN = {b"x-request-id": "request_id", b"traceparent": "traceparent", b"tracestate": "tracestate"}
"""Headers of a request that the observer takes, and its names for them."""
MAX_HEADER = 512
"""Bytes of such a header that are read, as much as W3C asks for; a longer one is none."""
FAILED = 500
"""Least status of a failure of the server."""
RouteTemplate = Callable[[str], str | None]


class RequestMiddleware:
    """Answer every request with its id, and tell an observer how it was answered."""

    def __init__(
        self, app: ASGIApp, observer: RequestObserver, template: RouteTemplate, first_segments: frozenset[str]
    ) -> None:
        """Wrap an application; `template` returns the template of a path's route, or None."""
        self.app, self.observer, self.template, self.first_segments = app, observer, template, first_segments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name in GIVEN and len(value) <= MAX_HEADER:
                given[GIVEN[name]] = value.decode("latin-1")
        request = self.observer.begin(**given, is_traced=scope["method"] == "POST")
        answer = _Answer(send, [(REQUEST_ID, request.request_id.encode())])
        if (trace := self.observer.traceresponse(request)) is not None:
            answer.headers.append((TRACERESPONSE, trace.encode()))
        try:
            await self.app(scope, receive, answer.send_on)
            answer.status = answer.status or unanswered_status(scope)
        finally:
            answer.status = answer.status or INTERNAL.status  # of a bug, whose answer comes from beyond all middleware
            if self.observer.wants(request, failed=answer.status >= FAILED):
                self.observer.finish(request, self._exchange(scope, request, answer))

    def _exchange(self, scope: Scope, request: RequestContext, answer: "_Answer") -> Exchange:
        path, client = plain_path(scope, self.first_segments), scope.get("client")
        return Exchange(
            protocol="http",
            method=scope["method"],
            route=self.template(path),
            status=answer.status,
            failed=answer.status >= FAILED,
            client=client[0] if client else None,
            end_time=answer.end_time or time.monotonic(),
            stream_time=answer.stream_time,
            bytes_in=announced_bytes(scope),
            bytes_out=answer.size,
            is_probe=path in OPEN,
        )


class _Answer:
    """An answer while it is sent."""

    __slots__ = ("end_time", "headers", "send", "size", "status", "stream_time")

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.send, self.headers = send, headers
        self.status = 0
        """Status; 0 before the answer has begun."""
        self.size = 0
        self.stream_time: float | None = None
        self.end_time: float | None = None

    async def send_on(self, message: Message) -> None:
        """Send a message, the first one with the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self.headers]}
        else:
            self.size += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.end_time = time.monotonic()
            elif self.stream_time is None:
                self.stream_time = time.monotonic()
        await self.send(message)


def route_templates(routes: Iterable[BaseRoute]) -> RouteTemplate:
    """Return the function from a path to the template of the first of some routes that has it."""
    found: list[tuple[Any, str]] = [(route.path_regex, route.path) for route in routes if isinstance(route, Route)]
    plain = {path for _, path in found if "{" not in path}

    def template(path: str) -> str | None:
        if path in plain:
            return path
        return next((text for regex, text in found if regex.match(path)), None)

    return template

"""Errors as responses: one table of statuses, and a body in the form of the request's protocol."""

import logging
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serve.errors import (
    AdapterFailed,
    ClassificationFailed,
    DeadlineExceeded,
    DeviceLost,
    GenerationFailed,
    InputError,
    NotAllowed,
    NotAuthenticated,
    NotReady,
    Overloaded,
    ServeError,
    ShuttingDown,
    UnknownAdapter,
    in_client_words,
    shortened,
)
from serve.http.headers import REQUEST_ID
from serve.http.protocol import ErrorKind, HttpProtocol
from serve.request_context import current_request

logger = logging.getLogger(__name__)

INVALID = ErrorKind(422, "validation", "invalid_request_error")
NOT_JSON = ErrorKind(400, "validation", "invalid_request_error")
REQUEST_TIMEOUT = ErrorKind(408, "timeout", "invalid_request_error", "request_timeout")
PAYLOAD_TOO_LARGE = ErrorKind(413, "payload_too_large", "invalid_request_error", "payload_too_large")
UNSUPPORTED_ENCODING = ErrorKind(415, "unsupported_encoding", "invalid_request_error", "unsupported_encoding")
HEADERS_TOO_LARGE = ErrorKind(431, "headers_too_large", "invalid_request_error", "headers_too_large")
UNSUPPORTED_CODING = ErrorKind(501, "unsupported_encoding", "invalid_request_error", "unsupported_encoding")
OUT_OF_CONNECTIONS = ErrorKind(503, "overloaded", "server_error", "out_of_connections")
OUT_OF_MEMORY = ErrorKind(503, "overloaded", "server_error", "out_of_memory")
INTERNAL = ErrorKind(500, "internal", "server_error", "internal")
KINDS: dict[type[Exception], ErrorKind] = {
    InputError: INVALID,
    NotAuthenticated: ErrorKind(401, "not_authenticated", "invalid_request_error", "invalid_api_key"),
    NotAllowed: ErrorKind(403, "not_allowed", "invalid_request_error", "not_allowed"),
    UnknownAdapter: ErrorKind(404, "unknown_adapter", "invalid_request_error", "model_not_found"),
    AdapterFailed: ErrorKind(500, "failed", "server_error", "adapter_failed"),
    Overloaded: ErrorKind(429, "overloaded", "rate_limit_error", "rate_limit_exceeded"),
    ClassificationFailed: ErrorKind(500, "failed", "server_error", "classification_failed"),
    GenerationFailed: ErrorKind(500, "failed", "server_error", "generation_failed"),
    DeadlineExceeded: ErrorKind(504, "deadline_exceeded", "server_error", "timeout"),
    DeviceLost: ErrorKind(503, "unhealthy", "server_error", "device_lost"),
    NotReady: ErrorKind(503, "unhealthy", "server_error", "not_ready"),
    ShuttingDown: ErrorKind(503, "draining", "server_error", "shutting_down"),
    ServeError: INTERNAL,
}
"""Kinds of errors; a class without an entry has that of its nearest base class."""
STATUSES: dict[int, tuple[ErrorKind, str]] = {
    400: (NOT_JSON, "the body is not JSON"),
    401: (KINDS[NotAuthenticated], "the server answers API keys, and the request has none that is known"),
    403: (
        KINDS[NotAllowed],
        "a page of an origin asks that --cors-origin does not name; or, of adapters: the server was started without "
        "--adapter-dir, or the key is not an administrator's",
    ),
    404: (KINDS[UnknownAdapter], "no adapter has that name"),
    408: (REQUEST_TIMEOUT, "the headers or the body have not arrived in time"),
    413: (PAYLOAD_TOO_LARGE, "the body is too large"),
    415: (UNSUPPORTED_ENCODING, "the body is compressed"),
    422: (INVALID, "a value is missing, unknown, out of range or not supported"),
    431: (HEADERS_TOO_LARGE, "the headers are too many or too large"),
    429: (
        KINDS[Overloaded],
        "the queue is too long, or the key has used up its minute: try again after the seconds of Retry-After",
    ),
    500: (INTERNAL, "the server failed, and its log says why"),
    501: (UNSUPPORTED_CODING, "the body has a transfer coding other than chunked"),
    503: (
        KINDS[ShuttingDown],
        "the server is stopping, its device is lost, or it has all the connections and bodies that it takes",
    ),
    504: (KINDS[DeadlineExceeded], "the request waited too long in the queue"),
}
"""Statuses of errors, each with its kind and what it says to clients."""
OF_POST = (400, 403, 422, 501, 504)
"""Those that need a body, or a queue that it goes to, or are of pages of other origins.

Another route answers with them only where it says so; any route may answer with the others.
"""
RETRY_AFTER = {429: 1.0, 503: 1.0}
"""Seconds after which a client may try again, by status, unless the error knows better."""
REASONS = {"extra_forbidden": "unknown field, leave it out"}
"""Reasons of validation errors by their type, where pydantic's own are not plain."""
EMPTY: Mapping[str, str] = MappingProxyType({})
MAX_MESSAGE = 2000
MAX_FIELD = 64
"""Characters of an error message, and of a field's name in one."""


class ErrorResponder:
    """Builds error responses in the form of the protocol that a path belongs to."""

    def __init__(self, protocols: Iterable[HttpProtocol]) -> None:
        self.protocols = sorted(protocols, key=lambda protocol: -len(protocol.prefix))

    def body(self, path: str, message: str, kind: ErrorKind, param: str | None = None) -> dict[str, Any]:
        """Return the JSON body of an error."""
        inside = (one for one in self.protocols if f"{path}/".startswith(f"{one.prefix.rstrip('/')}/"))
        protocol = next(inside, self.protocols[-1])
        return protocol.error_body(shortened(message, MAX_MESSAGE), kind, param)

    def response(
        self, path: str, message: str, kind: ErrorKind, param: str | None = None, *, retry_after: float | None = None
    ) -> JSONResponse:
        """Return the response of an error; `retry_after` is in seconds."""
        seconds = RETRY_AFTER.get(kind.status) if retry_after is None else retry_after
        headers = None if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
        return JSONResponse(self.body(path, message, kind, param), kind.status, headers)

    def error_response(self, path: str, error: ServeError, names: Mapping[str, str] = EMPTY) -> JSONResponse:
        """Return the response of an error; `names` are the client's for the engine's fields."""
        message, param = in_client_words(error, names)
        retry_after = error.retry_after if isinstance(error, Overloaded) else None
        return self.response(path, message, kind_of(error), param, retry_after=retry_after)

    def install(self, app: FastAPI) -> None:
        """Answer every exception of an application."""
        app.add_exception_handler(ServeError, self._serve_error)
        app.add_exception_handler(ValidationError, self._validation_error)
        app.add_exception_handler(HTTPException, self._http_error)
        app.add_exception_handler(Exception, self._bug)

    async def _serve_error(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServeError)
        return self.error_response(_path(request), error, getattr(request.state, "field_names", {}))

    async def _validation_error(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ValidationError)
        # For a field of several types, the error that lies deepest belongs to the type that was meant.
        worst = max(error.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
        if worst["type"].startswith("json"):
            reason = worst.get("ctx", {}).get("error", worst["msg"])
            return self.response(_path(request), f"the body is not JSON: {reason}", NOT_JSON)
        place = [shortened(str(part), MAX_FIELD) for part in worst["loc"]]
        reason = REASONS.get(worst["type"], worst["msg"])
        message = f"{'.'.join(place)}: {reason}" if place else reason
        return self.response(_path(request), message, INVALID, place[0] if place else None)

    async def _http_error(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = ErrorKind(error.status_code, "http", "invalid_request_error")
        response = self.response(_path(request), str(error.detail), kind)
        response.headers.update(error.headers or {})  # such as Allow, of a method that is not allowed
        return response

    async def _bug(self, request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        response = self.response(_path(request), "internal error; the server's log has the details", INTERNAL)
        if (asked := current_request.get()) is not None:  # no middleware sees this response
            response.raw_headers.append((REQUEST_ID, asked.request_id.encode()))
        return response


def _path(request: Request) -> str:
    """Return the path whose form an error has: that of the route which answers, where another passes requests to it."""
    path: str = getattr(request.state, "error_path", request.url.path)
    return path


def kind_of(error: Exception) -> ErrorKind:
    """Return the kind of an error: the entry of its class or of its nearest base class."""
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), INTERNAL)

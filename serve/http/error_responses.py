"""From errors to answers: one table."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serve.bundle.adapter import LONGEST_NAME
from serve.errors import (
    DeadlineExceeded,
    Draining,
    Failed,
    InputError,
    Overloaded,
    ServeError,
    UnknownAdapter,
    shortened,
)

logger = logging.getLogger(__name__)

STATUS: dict[type[Exception], tuple[int, str]] = {
    InputError: (422, "validation"),
    UnknownAdapter: (404, "unknown_adapter"),
    Overloaded: (429, "overloaded"),
    Failed: (500, "failed"),
    DeadlineExceeded: (504, "deadline_exceeded"),
    Draining: (503, "draining"),
}
"""Status code and error_type of each error."""
RETRY_AFTER = {429: "1", 503: "1"}
"""Seconds after which a client may try again."""
LONGEST_ERROR = 2000
"""Characters of an error: what is wrong, and not all that was sent."""


def install(app: FastAPI) -> None:
    """Answer every error as {"error": …, "error_type": …}."""
    app.add_exception_handler(ServeError, _serve_error)
    app.add_exception_handler(ValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


def answer(status: int, error: str, error_type: str) -> JSONResponse:
    """Return an error's response."""
    headers = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else None
    return JSONResponse(_body(error, error_type), status, headers)


def body_of(error: ServeError) -> dict[str, str]:
    """Return what an answer that has begun ends with if the rest of it fails."""
    return _body(str(error), _kind(error)[1])


async def _serve_error(request: Request, error: Exception) -> JSONResponse:
    status, error_type = _kind(error)
    return answer(status, str(error), error_type)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ValidationError)
    # Of a field that may be this or that, the fault that lies deepest is that of what was meant.
    fault = max(error.errors(include_url=False, include_input=False), key=lambda fault: len(fault["loc"]))
    if fault["type"].startswith("json"):
        return answer(400, f"the body is not JSON: {fault.get('ctx', {}).get('error', fault['msg'])}", "validation")
    where = ".".join(shortened(str(part), LONGEST_NAME) for part in fault["loc"] if part != "body")
    return answer(422, f"{where}: {fault['msg']}" if where else fault["msg"], "validation")


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(error.status_code, str(error.detail), "http")


async def _bug(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(500, "internal error; the server's log has the details", "internal")


def _kind(error: Exception) -> tuple[int, str]:
    return STATUS.get(type(error), (500, "internal"))


def _body(error: str, error_type: str) -> dict[str, str]:
    return {"error": shortened(error, LONGEST_ERROR), "error_type": error_type}

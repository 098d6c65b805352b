"""Description of a protocol over HTTP: one entry in the table of `serve.http.app`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from serve.engine import Capability


@dataclass(frozen=True)
class ErrorKind:
    """An error as clients see it."""

    status: int
    error_type: str
    """Type in text-embeddings-inference's error body."""
    openai_type: str
    openai_code: str | None = None


ErrorBody = Callable[[str, ErrorKind, str | None], dict[str, Any]]
"""Takes the message, the kind, and the field that is wrong (None if it is none), and returns the JSON body."""


@dataclass(frozen=True, kw_only=True)
class HttpProtocol:
    """Routes that belong together and the form of their errors."""

    routers: tuple[APIRouter, ...]
    error_body: ErrorBody
    prefix: str = "/"
    """Paths below it have this protocol's error bodies; the longest prefix decides."""
    capability: Capability | None = None
    """Capability that an engine needs for these routes; None for every engine."""

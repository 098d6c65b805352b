"""Response headers: those that name the adapters of an answer, its request and its trace."""

from collections.abc import Iterable
from typing import Protocol

ADAPTER_HEADERS = ("X-Adapter", "X-Adapter-Sha256")
REQUEST_ID, TRACERESPONSE = b"x-request-id", b"traceresponse"
EXPOSED_HEADERS = (*ADAPTER_HEADERS, "X-Batch", "X-Request-Id", "traceresponse")
"""Headers that pages of other origins may read."""
MOST = 16
"""Adapters that headers name: proxies take 4 KB of them, and a name with its hash may have 130 bytes."""


class Answer(Protocol):
    """A result of an engine."""

    @property
    def adapter(self) -> str:
        """Name of the adapter."""

    @property
    def sha256(self) -> str:
        """sha256 of the adapter's weights."""


def adapter_headers(answers: Iterable[Answer]) -> dict[str, str]:
    """Return `X-Adapter` and `X-Adapter-Sha256`: each adapter once, in the answers' order; none of more than 16."""
    adapters = dict.fromkeys((answer.adapter, answer.sha256) for answer in answers)
    if len(adapters) > MOST:
        return {}
    names, hashes = zip(*adapters, strict=True)
    return dict(zip(ADAPTER_HEADERS, (",".join(names), ",".join(hashes)), strict=True))

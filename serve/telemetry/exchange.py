"""A request with its answer, as logs and traces describe it: never the texts of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serve.events import BatchFinished, SequenceFinished
from serve.request_context import RequestContext

MOST_ADAPTERS = 16
"""Adapters that are named; a request may have one for each of its texts."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request that has been answered, over any protocol."""

    protocol: str
    """`http` or `grpc`."""
    method: str
    """HTTP's method, or gRPC's."""
    route: str | None
    """Template of the path, such as `/v2/models/{name}/infer`, or gRPC's service; None if no route has the path."""
    status: int | str
    """HTTP's status code, or the name of gRPC's."""
    failed: bool
    """The fault is the server's: 5xx, or what gRPC has for it."""
    client: str | None
    """Address of the peer."""
    end_time: float
    """Seconds of `time.monotonic`."""
    stream_time: float | None = None
    """Time of the first piece of a stream; None if it is none."""
    bytes_in: int | None
    """Bytes of the request's body; None if the client does not say."""
    bytes_out: int
    """Bytes of the answer's body."""
    is_probe: bool = False
    """A health check, of which a 503 is an ordinary answer."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Adapters and tokens of a request, as its engine's events have them."""

    adapters: Sequence[str]
    """Each once, in the order of their end; at most 16 of them."""
    tokens_in: int | None
    """Tokens that were read; None if nothing was."""
    tokens_out: int | None
    """Tokens that were generated; None if the request was none to generate."""


def usage_of(request: RequestContext, events: Sequence[Any]) -> Usage:
    """Return the adapters and tokens of a request from the events that belong to it."""
    adapters: dict[str, None] = {}
    read: list[int] = []
    generated: list[int] = []
    for event in events:
        if isinstance(event, BatchFinished):
            own = own_rows(request, event)
            adapters |= dict.fromkeys(event.adapters[row] for row in own)
            read += [event.row_tokens[row] for row in own]
        elif isinstance(event, SequenceFinished):
            adapters[event.adapter] = None
            read.append(event.prompt_tokens)
            generated.append(event.generated_tokens)
    return Usage(
        adapters=list(adapters)[:MOST_ADAPTERS],
        tokens_in=sum(read) if read else None,
        tokens_out=sum(generated) if generated else None,
    )


def own_rows(request: RequestContext, event: BatchFinished) -> list[int]:
    """Return the rows of a batch that are a request's."""
    return [row for row, owner in enumerate(event.requests) if owner is request]

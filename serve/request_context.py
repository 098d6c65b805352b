"""The request that is being answered: its id, in answers and log lines, and what its engine reports of it."""

import random
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
"""Ids that are taken from clients: they go into headers and log lines as they are."""
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(eq=False, slots=True)
class RequestContext:
    """A request, from its arrival to the end of its answer."""

    request_id: str
    start_time: float = field(default_factory=time.monotonic)
    """Seconds of `time.monotonic`."""
    traceparent: str = ""
    """The client's trace and span, as W3C's Trace Context has them; empty without."""
    tracestate: str = ""
    is_logged: bool = False
    """It is one of the share that the access log has."""
    events: list[Any] | None = None
    """Events of engines that belong to it; None where nobody asks for them, and once it is answered."""
    batches: list[Any] | None = None
    """Batches that texts of it were in, as `BatchFinished`; None where its client does not ask for them."""
    trace: Any = None
    """State of the tracer for it; None if it is not traced."""
    own_trace_id: str = ""
    """Trace that the tracer has put it into; empty without a tracer."""

    @property
    def trace_id(self) -> str:
        """Trace of the request, of a client alone if nothing is traced here; empty if there is none."""
        given = TRACEPARENT.fullmatch(self.traceparent)
        return self.own_trace_id or (given[1] if given else "")


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
"""The request that is being answered; None outside requests."""


def request_id_of(given: str) -> str:
    """Return the id of a request: the client's if it has one of 1 to 128 plain characters, else a fresh one."""
    return given if ID.fullmatch(given) else f"{random.getrandbits(128):032x}"

"""Requests of gRPC as logs and traces have them: their ids and traces in metadata, their sizes and their ends."""

import time
from typing import Any
from urllib.parse import unquote

import grpc

from serve.telemetry.exchange import Exchange
from serve.telemetry.request_observer import RequestObserver

GIVEN = {"x-request-id": "request_id", "traceparent": "traceparent", "tracestate": "tracestate"}
"""Keys of a request's metadata that the observer takes, and its names for them."""
MAX_VALUE = 512
"""Characters of such a value; a longer one is none."""
FAULTS = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""Statuses whose fault is the server's, as 5xx is over HTTP."""


class Call:
    """One request and its answer."""

    def __init__(
        self, observer: RequestObserver, service: str, method: str, context: Any, *, is_work: bool, request_id: str = ""
    ) -> None:
        """Begin a request, which is then the current one.

        Args:
            observer: Keeps what logs and traces need.
            service: Name of the service.
            method: Name of the method.
            context: gRPC's context of the call.
            is_work: False for health checks and the like, which are not traced.
            request_id: Id of the request; empty takes that of the metadata.
        """
        self.observer, self.service, self.method = observer, service, method
        self.context, self.is_work = context, is_work
        given = {"request_id": request_id} if request_id else {}
        self.request = observer.begin(**{**given_by(context), **given}, is_traced=is_work)
        self.bytes_in: int | None = None
        self.bytes_out = 0
        self.stream_time: float | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what the answer says of the request."""
        trace = self.observer.traceresponse(self.request)
        own = (("x-request-id", self.request.request_id),)
        return own if trace is None else (*own, ("traceresponse", trace))

    def receive(self, message: Any) -> None:
        """Take note of the request's message."""
        if self.request.events is not None:
            self.bytes_in = message.ByteSize()

    def send(self, message: Any, *, in_stream: bool = False) -> None:
        """Take note of a message of the answer."""
        if self.request.events is not None:
            self.bytes_out += message.ByteSize()
            if in_stream and self.stream_time is None:
                self.stream_time = time.monotonic()

    def finish(self, code: grpc.StatusCode) -> None:
        """Log and trace the request, which has been answered."""
        if self.observer.wants(self.request, failed=code.name in FAULTS):
            self.observer.finish(self.request, self._exchange(code))

    def _exchange(self, code: grpc.StatusCode) -> Exchange:
        return Exchange(
            protocol="grpc",
            method=self.method,
            route=self.service,
            status=code.name,
            failed=code.name in FAULTS,
            client=_host(self.context.peer()),
            end_time=time.monotonic(),
            stream_time=self.stream_time,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            is_probe=not self.is_work,
        )


def given_by(context: Any) -> dict[str, str]:
    """Return what the metadata of a call say of its id and its trace."""
    metadata = context.invocation_metadata() or ()
    return {GIVEN[key]: value for key, value in metadata if key in GIVEN and len(value) <= MAX_VALUE}


def _host(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as `ipv4:127.0.0.1:5000`."""
    _, _, place = unquote(peer).partition(":")
    host, _, _ = place.rpartition(":")
    return host.strip("[]") or peer

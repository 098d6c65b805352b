"""Requests while they are answered, kept for the access log and for traces; the same for every protocol."""

from collections.abc import Sequence
from typing import Any, Protocol

from serve.engine import Engine
from serve.events import Event
from serve.request_context import RequestContext, current_request, request_id_of
from serve.telemetry.access_log import AccessLog
from serve.telemetry.exchange import Exchange


class RequestTracer(Protocol):
    """Makes spans of requests."""

    def begin(self, request: RequestContext) -> bool:
        """Put a request into a trace, the client's if it has one, and return whether that is sampled."""

    def traceresponse(self, request: RequestContext) -> str:
        """Return the trace and the span of a request, as W3C's Trace Context has them."""

    def finish(self, request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> None:
        """Export the spans of a request that has been answered; never waits."""

    def close(self) -> None:
        """Export what is left, for a few seconds at most."""


class RequestObserver:
    """Requests of all protocols over one engine, whose events go to the requests that they belong to."""

    def __init__(
        self, engine: Engine, *, access_log: AccessLog | None = None, tracer: RequestTracer | None = None
    ) -> None:
        """Observe an engine, if there is anything to observe for."""
        self.access_log, self.tracer = access_log, tracer
        self.records = access_log is not None or tracer is not None
        """Requests are recorded, and not only given ids."""
        if self.records:
            engine.subscribe(self.record)

    def begin(
        self, request_id: str = "", *, traceparent: str = "", tracestate: str = "", is_traced: bool = True
    ) -> RequestContext:
        """Return a request that has arrived, which is then the current one.

        Args:
            request_id: The client's id; one that is not plain is replaced by a fresh one.
            traceparent: The client's trace and span.
            tracestate: What else there is of its trace.
            is_traced: False for what is no work, such as health checks.
        """
        request = RequestContext(request_id_of(request_id), traceparent=traceparent, tracestate=tracestate)
        current_request.set(request)
        if self.records:
            request.is_logged = self.access_log is not None and self.access_log.draws()
            is_sampled = self.tracer is not None and is_traced and self.tracer.begin(request)
            request.events = [] if request.is_logged or is_sampled else None
        return request

    def wants(self, request: RequestContext, *, failed: bool) -> bool:
        """Return whether to finish a request: one that is logged or traced, or that the server failed to answer."""
        return request.events is not None or (failed and self.access_log is not None)

    def traceresponse(self, request: RequestContext) -> str | None:
        """Return what an answer says of the request's trace; None if it is not traced here."""
        return None if self.tracer is None or request.trace is None else self.tracer.traceresponse(request)

    def record(self, event: Event) -> None:
        """Give an event to its requests."""
        for request in set(event.requests):
            if request is not None and request.events is not None:
                request.events.append(event)

    def finish(self, request: RequestContext, exchange: Exchange) -> None:
        """Log and trace a request that has been answered."""
        events, request.events = request.events or (), None
        is_logged = request.is_logged or (exchange.failed and not exchange.is_probe)
        if self.access_log is not None and is_logged:
            self.access_log.write(request, exchange, events)
        if self.tracer is not None and request.trace is not None:
            self.tracer.finish(request, exchange, events)

    def close(self) -> None:
        """Export the traces that are left, for a few seconds at most."""
        if self.tracer is not None:
            self.tracer.close()

"""Traces for OpenTelemetry, sent to a collector over OTLP/HTTP; needs the extra `otlp`.

Spans are made when a request has been answered, from what its engine has reported, and a thread sends them: a collector
that is slow or down costs spans, and no request waits for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve.address import without_password
from serve.request_context import RequestContext
from serve.telemetry.exchange import Exchange, usage_of
from serve.telemetry.outage import Outage
from serve.telemetry.spans import SpanTimes, spans_of

logger = logging.getLogger(__name__)
PATH = "/v1/traces"
"""Path of traces below a collector's address."""
SERVICE = "adamix-serve"
"""Name of the service, unless OTEL_SERVICE_NAME has another."""
CLOSE_SECONDS = 3.0
"""Time to send the last spans."""
TALKATIVE = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
"""Loggers that repeat themselves for each batch of spans that is not taken."""


class OtlpTracer:
    """Spans of requests, a share of them sampled unless the client has decided."""

    def __init__(self, endpoint: str, share: float, outage: Outage) -> None:
        """Send spans to a collector.

        Args:
            endpoint: Address of the collector, such as http://localhost:4318.
            share: Traces that are sampled, of those that begin here; from 0 to 1.
            outage: State of the collector, which is logged when it changes.
        """
        # The environment's attributes and name go before these, as OpenTelemetry has it.
        resource = Resource.create({"service.name": SERVICE, "service.version": version("adamix")})
        sampler = ParentBased(TraceIdRatioBased(share))
        self.provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        url = endpoint.rstrip("/").removesuffix(PATH) + PATH
        self.provider.add_span_processor(BatchSpanProcessor(_PatientExporter(url, outage)))
        self.tracer = self.provider.get_tracer("adamix")
        self.propagator = TraceContextTextMapPropagator()

    def begin(self, request: RequestContext) -> bool:
        """Put a request into a trace, the client's if it has one, and return whether that is sampled."""
        carrier = {"traceparent": request.traceparent, "tracestate": request.tracestate}
        parent = self.propagator.extract(carrier) if request.traceparent else None
        offset = time.time_ns() - time.monotonic_ns()
        start = _nanoseconds(request.start_time, offset)
        span = self.tracer.start_span("request", context=parent, kind=SpanKind.SERVER, start_time=start)
        request.trace = _Trace(span, offset)
        request.own_trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        return span.is_recording()

    def traceresponse(self, request: RequestContext) -> str:
        """Return the trace and the span of a request, as W3C's Trace Context has them."""
        carrier: dict[str, str] = {}
        self.propagator.inject(carrier, trace.set_span_in_context(request.trace.span))
        return carrier["traceparent"]

    def finish(self, request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> None:
        """Export the spans of a request that has been answered; never waits."""
        span, offset = request.trace.span, request.trace.offset
        if not span.is_recording():
            return
        inside = trace.set_span_in_context(span)
        for part in spans_of(request, exchange, events):
            start, end = (_nanoseconds(moment, offset) for moment in (part.start_time, part.end_time))
            child = self.tracer.start_span(part.name, context=inside, start_time=start, attributes=part.attributes)
            _note_error(child, part)
            child.end(end_time=end)
        span.update_name(NAMES[exchange.protocol].format(method=exchange.method, route=exchange.route or "").strip())
        span.set_attributes(_attributes(request, exchange, events))
        if exchange.failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=_nanoseconds(exchange.end_time, offset))

    def close(self) -> None:
        """Export what is left, for a few seconds at most."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Trace:
    """The span of a request, and the wall clock's lead over the monotonic clock at its beginning."""

    span: Span
    offset: int
    """Nanoseconds."""


class _PatientExporter(SpanExporter):
    """Exports to a collector, and logs once that it takes no spans, and once that it takes them again."""

    def __init__(self, url: str, outage: Outage) -> None:
        self.url, self.exporter = without_password(url), OTLPSpanExporter(endpoint=url)
        self.outage, self.reason = outage, ""
        for name in TALKATIVE:
            logging.getLogger(name).addFilter(self._keep_reason)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that are not taken are lost."""
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self.outage.end():
                logger.info("%s takes spans again", self.url)
        elif self.outage.begin():
            logger.warning("%s takes no spans, and they are dropped until it does: %s", self.url, self.reason)
        return result

    def shutdown(self) -> None:
        """End the connection."""
        self.exporter.shutdown()

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        self.reason = record.getMessage()
        return False


def _nanoseconds(moment: float, offset: int) -> int:
    """Return a time of the monotonic clock as one of the wall clock."""
    return offset + int(moment * 1e9)


def _note_error(span: Span, part: SpanTimes) -> None:
    if part.error is not None:
        span.set_attribute("error.type", part.error)
        span.set_status(Status(StatusCode.ERROR))


def _attributes(request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> dict[str, Any]:
    """Return the attributes of a request's span, by OpenTelemetry's conventions where they have a name."""
    usage = usage_of(request, events)
    found = {
        **PROTOCOL_ATTRIBUTES[exchange.protocol](exchange),
        "client.address": exchange.client,
        "adamix.request_id": request.request_id,
        "adamix.adapters": list(usage.adapters) or None,
        "gen_ai.usage.input_tokens": usage.tokens_in,
        "gen_ai.usage.output_tokens": usage.tokens_out,
        "error.type": str(exchange.status) if exchange.failed else None,
    }
    return {name: value for name, value in found.items() if value is not None}


NAMES = {"http": "{method} {route}", "grpc": "{route}/{method}"}
"""Names of requests' spans by protocol."""
PROTOCOL_ATTRIBUTES: dict[str, Callable[[Exchange], dict[str, Any]]] = {
    "http": lambda exchange: {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.bytes_in,
        "http.response.body.size": exchange.bytes_out,
    },
    "grpc": lambda exchange: {
        "rpc.system": "grpc",
        "rpc.service": exchange.route,
        "rpc.method": exchange.method,
        "rpc.grpc.status_code": exchange.status,
    },
}
"""Attributes of a request's span by its protocol."""

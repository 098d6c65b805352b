"""The parts of a request as spans, from the events that belong to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve.events import BatchFinished, SequenceFinished, StageFinished
from serve.generated_text import FinishReason
from serve.request_context import RequestContext
from serve.telemetry.exchange import MOST_ADAPTERS, Exchange, own_rows

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class SpanTimes:
    """A part of a request: its name, its times (seconds of `time.monotonic`) and its attributes."""

    name: str
    start_time: float
    end_time: float
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None
    """Class of the error that it ended with."""


def spans_of(request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> list[SpanTimes]:
    """Return the parts of a request: its stages, its queues and runs, and its stream."""
    found = [span for event in events for span in SPANS[type(event)](request, event)]
    if exchange.stream_time is not None:
        stream = SpanTimes(name="stream", start_time=exchange.stream_time, end_time=exchange.end_time)
        found.append(stream)
    return found


def _stage(request: RequestContext, event: StageFinished) -> Iterator[SpanTimes]:
    end = event.start_time + event.seconds
    yield SpanTimes(name=event.stage, start_time=event.start_time, end_time=end, error=event.error)


def _batch(request: RequestContext, event: BatchFinished) -> Iterator[SpanTimes]:
    """Yield the wait of the request's first row of a batch, and the batch's run."""
    rows = own_rows(request, event)
    queued = min(event.queued_times[row] for row in rows)
    yield SpanTimes(name="queue", start_time=queued, end_time=event.start_time)
    attributes: Attributes = {
        "adamix.batch.rows": len(event.adapters),
        "adamix.batch.own_rows": len(rows),
        "adamix.batch.adapters": sorted(set(event.adapters))[:MOST_ADAPTERS],
        "adamix.batch.tokens": event.tokens,
        "adamix.batch.padding_tokens": event.padding_tokens,
    }
    end = event.start_time + event.run_seconds
    yield SpanTimes(name="run", start_time=event.start_time, end_time=end, attributes=attributes)


def _sequence(request: RequestContext, event: SequenceFinished) -> Iterator[SpanTimes]:
    """Yield the wait of a sequence, its prompt's processing, and its tokens' decoding; one may end in each."""
    error = str(event.finish_reason) if event.finish_reason is FinishReason.FAILED else None
    begin, end = event.begin_time, event.finish_time
    if begin is None:
        yield SpanTimes(name="queue", start_time=event.submit_time, end_time=end, error=error)
        return
    yield SpanTimes(name="queue", start_time=event.submit_time, end_time=begin)
    attributes: Attributes = {
        "adamix.adapter": event.adapter,
        "adamix.batch.rows": event.batch_rows,
        "adamix.batch.adapters": list(event.batch_adapters)[:MOST_ADAPTERS],
        "gen_ai.usage.input_tokens": event.prompt_tokens,
        "gen_ai.usage.output_tokens": event.generated_tokens,
        "gen_ai.response.finish_reasons": [str(event.finish_reason)],
    }
    first = event.first_token_time
    prefilled = end if first is None else first
    yield SpanTimes(
        name="prefill",
        start_time=begin,
        end_time=prefilled,
        attributes=attributes if first is None else {},
        error=error if first is None else None,
    )
    if first is not None:
        yield SpanTimes(name="decode", start_time=first, end_time=end, attributes=attributes, error=error)


SPANS: dict[type, Callable[[RequestContext, Any], Iterator[SpanTimes]]] = {
    StageFinished: _stage,
    BatchFinished: _batch,
    SequenceFinished: _sequence,
}
"""Spans of each kind of event."""

"""Metrics for Prometheus: gauges read an engine's stats, counters and histograms subscribe to its events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from serve.engine import Engine
from serve.events import BatchFinished, Event, SequenceFinished
from serve.telemetry.adamix_metrics import AdamixMetrics
from serve.telemetry.adapter_labels import AdapterLabels
from serve.telemetry.vllm_metrics import VllmMetrics


class MetricSet(Protocol):
    """Metrics under the names of one tool."""

    def batch_finished(self, event: BatchFinished) -> None:
        """Count a batch of a classifier."""

    def sequence_finished(self, event: SequenceFinished) -> None:
        """Count a sequence of a generator."""

    def request_finished(self, method: str, status: str, seconds: float) -> None:
        """Count a request over HTTP or gRPC."""


METRIC_SETS: dict[str, Callable[[Engine, CollectorRegistry, AdapterLabels], MetricSet]] = {
    "adamix": AdamixMetrics,
    "vllm": VllmMetrics,
}
"""Sets of names; a new one is a module beside this file and an entry here."""


COUNTS: dict[type, Callable[[MetricSet, Any], None]] = {
    BatchFinished: lambda counted, event: counted.batch_finished(event),
    SequenceFinished: lambda counted, event: counted.sequence_finished(event),
}
"""The part of a set that counts an event; events that are not here are not counted."""


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """The metrics that a server has."""

    sets: Sequence[str] = ("adamix",)
    """Keys of `METRIC_SETS`."""
    max_adapters: int = 100
    """Adapters that have a label of their own, those that were used first; the others share one."""
    are_open: bool = False
    """On a server with API keys: /metrics needs none."""


DEFAULT_METRICS = MetricOptions()


class Metrics:
    """Metrics of one server."""

    def __init__(self, engine: Engine, options: MetricOptions = DEFAULT_METRICS) -> None:
        """Subscribe to an engine."""
        self.options = options
        self.registry, labels = CollectorRegistry(), AdapterLabels(options.max_adapters)
        self.sets = [METRIC_SETS[name](engine, self.registry, labels) for name in dict.fromkeys(options.sets)]
        engine.subscribe(self.record)

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def request_finished(self, method: str, status: str, seconds: float) -> None:
        """Count a request by its method and status, either of HTTP or of gRPC."""
        for one in self.sets:
            one.request_finished(method, status, seconds)

    def record(self, event: Event) -> None:
        """Count an event of the engine."""
        if (count := COUNTS.get(type(event))) is not None:
            for one in self.sets:
                count(one, event)

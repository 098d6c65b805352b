"""Metrics for Prometheus: gauges read an engine's stats, counters and histograms subscribe to its events."""

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.engine import BatchFinished, Capability, Engine, Event, SequenceFinished
from serve.generated_text import FinishReason

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
GAUGES: dict[str, tuple[str, str]] = {
    "healthy": ("healthy", "1 while requests can be answered, 0 once the device is lost"),
    "queue_rows": ("waiting", "Texts in the queue"),
    "adapters": ("adapters", "Adapters served"),
    "slots": ("slots", "Adapters that fit on the device at a time"),
    "placed": ("slot_writes", "Adapters written into a slot since the start"),
    "adapters_in_host": ("host_adapters", "Adapters with their weights in host memory"),
    "live_rows": ("active_sequences", "Sequences being generated"),
    "kv_cache_usage": ("kv_cache_usage", "Share of the KV-cache tokens that is taken, 0 to 1"),
    "tokens_in_flight": ("tokens_in_flight", "KV-cache tokens that the active sequences may need"),
}
"""Gauges by name: the field of `EngineStats` and the description."""
LABELS = ("provider", "device")
MAX_ADAPTERS = 100
OTHER = "other"
"""Label of all adapters beyond that number."""
OF_A_BANK = ("slots", "placed", "adapters_in_host")


class AdapterCollector(Collector):
    """Adapters of the requests that run and wait, as routers read them: names in labels, the time as the value."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge."""
        stats = self.engine.stats()
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        found = GaugeMetricFamily(
            "adamix_lora_requests_info", "Adapters of running and waiting requests", labels=labels
        )
        names = (", ".join(sorted(some)) for some in (stats.running_adapters, stats.waiting_adapters))
        found.add_metric([str(stats.adapters if stats.slots is None else stats.slots), *names], time.time())
        yield found


class Metrics:
    """Metrics of one server."""

    def __init__(self, engine: Engine, *, max_adapters: int = MAX_ADAPTERS) -> None:
        """Subscribe to an engine; of its adapters, so many have a label of their own, those that were used first."""
        self.engine, self.registry = engine, CollectorRegistry()
        self.max_adapters = max_adapters
        self.labelled: set[str] = set()
        """Adapters that have a label of their own."""
        self.requests = self._counter("requests", "Requests by status and method, of HTTP and gRPC", "code", "method")
        self.rows = self._counter("rows", "Texts answered, by adapter", "adapter")
        self.tokens = self._counter("tokens", "Tokens processed, by kind", "kind")
        self.request_seconds = self._histogram(
            "request_seconds", "From a request's arrival to the end of its response", SECONDS
        )
        self._add_gauges()
        if Capability.CLASSIFY in engine.capabilities:
            self.queue_seconds = self._histogram("queue_seconds", "Wait of a batch's oldest row", SECONDS)
            self.inference_seconds = self._histogram("inference_seconds", "One run of the graph", SECONDS)
            self.batch_rows = self._histogram("batch_rows", "Rows of a batch", ROWS)
            self.batch_adapters = self._histogram("batch_adapters", "Different adapters in a batch", ROWS)
        if Capability.GENERATE in engine.capabilities:
            self.first_seconds = self._histogram("first_token_seconds", "From arrival to the first token", SECONDS)
            self.token_seconds = self._histogram("token_seconds", "Mean time between a sequence's tokens", SECONDS)
            self.registry.register(AdapterCollector(engine))
            self.ended = self._counter("ended", "Sequences by finish reason", "reason")
        engine.subscribe(self.record)

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def request_finished(self, method: str, status: str, seconds: float) -> None:
        """Count a request by its method and status, either of HTTP or of gRPC."""
        self.requests.labels(status, method).inc()
        self.request_seconds.observe(seconds)

    def record(self, event: Event) -> None:
        """Count an event of the engine."""
        match event:
            case BatchFinished():
                self._record_batch(event)
            case SequenceFinished():
                self._record_sequence(event)

    def _record_batch(self, event: BatchFinished) -> None:
        self.queue_seconds.observe(event.queue_seconds)
        self.inference_seconds.observe(event.run_seconds)
        self.batch_rows.observe(len(event.adapters))
        self.batch_adapters.observe(event.distinct_adapters)
        self.tokens.labels("text").inc(event.tokens)
        self.tokens.labels("padding").inc(event.padding_tokens)
        for adapter in event.adapters:
            self.rows.labels(self._label(adapter)).inc()

    def _record_sequence(self, event: SequenceFinished) -> None:
        if event.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            self.rows.labels(self._label(event.adapter)).inc()
        self.ended.labels(event.finish_reason).inc()
        self.tokens.labels("read").inc(event.prompt_tokens)
        self.tokens.labels("written").inc(event.generated_tokens)
        if event.first_token_seconds is not None:
            self.first_seconds.observe(event.first_token_seconds)
        if event.decode_seconds is not None and event.generated_tokens > 1:
            self.token_seconds.observe(event.decode_seconds / (event.generated_tokens - 1))

    def _label(self, adapter: str) -> str:
        """Return the label of an adapter: a time series is kept for each, so that there have to be few."""
        if adapter not in self.labelled:
            if len(self.labelled) >= self.max_adapters:
                return OTHER
            self.labelled.add(adapter)
        return adapter

    def _add_gauges(self) -> None:
        """Add gauges of the device, and one for each known field of the stats, which is read at every scrape."""
        stats = self.engine.stats()
        provider = Gauge("adamix_provider", "Provider and device that run a graph", LABELS, registry=self.registry)
        devices = set()
        for facts in (part.info() for part in self.engine.parts()):
            provider.labels(facts.provider, "cpu" if facts.device is None else facts.device.name).set(1)
            devices |= {facts.device} if facts.device else set()
        for device in devices:
            memory = Gauge("adamix_device_memory_bytes", "All memory of the device", registry=self.registry)
            memory.set(device.memory_bytes)
        for name, (field, text) in GAUGES.items():
            if getattr(stats, field) is None or (name in OF_A_BANK and stats.slots is None):
                continue
            gauge = Gauge(f"adamix_{name}", text, registry=self.registry)
            gauge.set_function(lambda field=field: getattr(self.engine.stats(), field))  # type: ignore[misc]

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"adamix_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"adamix_{name}", text, buckets=buckets, registry=self.registry)

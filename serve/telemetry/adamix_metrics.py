"""Metrics under our own names."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.engine import Capability, Engine
from serve.events import BatchFinished, SequenceFinished
from serve.generated_text import FinishReason
from serve.telemetry.adapter_collectors import AdapterResidency, LoraRequestsInfo
from serve.telemetry.adapter_labels import AdapterLabels
from serve.telemetry.stats_collector import StatsCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
GAUGES: dict[str, tuple[str, str]] = {
    "adamix_healthy": ("healthy", "1 while requests can be answered, 0 once the device is lost"),
    "adamix_queue_rows": ("waiting", "Texts in the queue"),
    "adamix_running_rows": ("running", "Texts being processed: sequences with a row, or texts of batches that run"),
    "adamix_adapters": ("adapters", "Adapters served"),
    "adamix_live_rows": ("active_sequences", "KV-cache rows that generate, one for each beam"),
    "adamix_kv_cache_usage": ("kv_cache_usage", "Share of the KV-cache tokens that is taken, 0 to 1"),
    "adamix_tokens_in_flight": ("tokens_in_flight", "KV-cache tokens that the active sequences may need"),
}
"""Gauges by name: the field of `EngineStats` and the description."""
BANK_GAUGES: dict[str, tuple[str, str]] = {
    "adamix_slots": ("slots", "Adapters that fit on the device at a time"),
    "adamix_placed": ("slot_writes", "Adapters written into a slot since the start"),
    "adamix_adapters_in_host": ("host_adapters", "Adapters with their weights in host memory"),
}
"""The same for an engine with a bank."""
LABELS = ("provider", "device")


class AdamixMetrics:
    """Metrics of one server under our own names."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, labels: AdapterLabels) -> None:
        self.engine, self.registry, self.labels = engine, registry, labels
        self.requests = self._counter("requests", "Requests by status and method, of HTTP and gRPC", "code", "method")
        self.rows = self._counter("rows", "Texts answered, by adapter", "adapter")
        self.tokens = self._counter("tokens", "Tokens processed, by kind", "kind")
        self.request_seconds = self._histogram(
            "request_seconds", "From a request's arrival to the end of its response", SECONDS
        )
        self.queue_seconds = self._histogram("queue_seconds", "Wait of a text before it is processed", SECONDS)
        if Capability.CLASSIFY in engine.capabilities:
            self.inference_seconds = self._histogram("inference_seconds", "One run of the graph", SECONDS)
            self.batch_rows = self._histogram("batch_rows", "Rows of a batch", ROWS)
            self.batch_adapters = self._histogram("batch_adapters", "Different adapters in a batch", ROWS)
        if Capability.GENERATE in engine.capabilities:
            self.prefill_seconds = self._histogram("prefill_seconds", "From the queue to the first token", SECONDS)
            self.first_seconds = self._histogram("first_token_seconds", "From arrival to the first token", SECONDS)
            self.token_seconds = self._histogram("token_seconds", "Mean time between a sequence's tokens", SECONDS)
            self.ended = self._counter("ended", "Sequences by finish reason", "reason")
        self._add_device()
        registry.register(StatsCollector(engine, GAUGES, {}))
        if engine.stats().slots is not None:
            registry.register(StatsCollector(engine, BANK_GAUGES, {}))
            registry.register(AdapterResidency("adamix_adapter_residency", engine, labels))
        registry.register(LoraRequestsInfo("adamix_lora_requests_info", engine, max_adapters=labels.limit))

    def request_finished(self, method: str, status: str, seconds: float) -> None:
        """Count a request by its method and status, either of HTTP or of gRPC."""
        self.requests.labels(status, method).inc()
        self.request_seconds.observe(seconds)

    def batch_finished(self, event: BatchFinished) -> None:
        """Count a batch of a classifier."""
        for queued in event.queued_times:
            self.queue_seconds.observe(event.start_time - queued)
        self.inference_seconds.observe(event.run_seconds)
        self.batch_rows.observe(len(event.adapters))
        self.batch_adapters.observe(event.distinct_adapters)
        self.tokens.labels("text").inc(event.tokens)
        self.tokens.labels("padding").inc(event.padding_tokens)
        for adapter in event.adapters:
            self.rows.labels(self.labels.of(adapter)).inc()

    def sequence_finished(self, event: SequenceFinished) -> None:
        """Count a sequence of a generator."""
        if event.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            self.rows.labels(self.labels.of(event.adapter)).inc()
        self.ended.labels(event.finish_reason).inc()
        self.tokens.labels("written").inc(event.generated_tokens)
        if event.queue_seconds is not None:
            self.queue_seconds.observe(event.queue_seconds)
            self.tokens.labels("read").inc(event.prompt_tokens)
            self.tokens.labels("cached").inc(event.cached_tokens or 0)
        if event.prefill_seconds is not None:
            self.prefill_seconds.observe(event.prefill_seconds)
        if event.first_token_seconds is not None:
            self.first_seconds.observe(event.first_token_seconds)
        if event.token_seconds:
            self.token_seconds.observe(sum(event.token_seconds) / len(event.token_seconds))

    def _add_device(self) -> None:
        """Add gauges of the provider and its device."""
        provider = Gauge("adamix_provider", "Provider and device that run a graph", LABELS, registry=self.registry)
        devices = set()
        for facts in (part.info() for part in self.engine.parts()):
            provider.labels(facts.provider, "cpu" if facts.device is None else facts.device.name).set(1)
            devices |= {facts.device} if facts.device else set()
        for device in devices:
            memory = Gauge("adamix_device_memory_bytes", "All memory of the device", registry=self.registry)
            memory.set(device.memory_bytes)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"adamix_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"adamix_{name}", text, buckets=buckets, registry=self.registry)

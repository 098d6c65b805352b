"""Metrics under vLLM's names, which dashboards, autoscalers and routers know.

A text of a classifier counts as vLLM counts one of a pooling model: a request that is prefilled and stops.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from serve.engine import Engine
from serve.events import BatchFinished, SequenceFinished
from serve.generated_text import FinishReason
from serve.telemetry.adapter_collectors import LoraRequestsInfo
from serve.telemetry.adapter_labels import AdapterLabels
from serve.telemetry.many_values_histogram import ManyValuesHistogram
from serve.telemetry.stats_collector import StatsCollector

MODEL, REASON = "model_name", "finished_reason"
GAUGES: dict[str, tuple[str, str]] = {
    "vllm:num_requests_running": ("running", "Texts being processed"),
    "vllm:num_requests_waiting": ("waiting", "Texts in the queue"),
    "vllm:kv_cache_usage_perc": ("kv_cache_usage", "Share of the KV-cache tokens that is taken, 0 to 1"),
}
"""Gauges by name: the field of `EngineStats` and the description."""
FINE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2)
"""Bounds below the first one that vLLM has for requests, for small models on a CPU."""
REQUEST_SECONDS = (
    *FINE,
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
    *(80.0, 160.0, 640.0, 2560.0),
)
TOKEN_SECONDS = (
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "vllm:time_to_first_token_seconds": ("From arrival to the first token", FIRST_TOKEN_SECONDS),
    "vllm:e2e_request_latency_seconds": ("From arrival to the end of the text", REQUEST_SECONDS),
    "vllm:request_queue_time_seconds": ("Wait in the queue", REQUEST_SECONDS),
    "vllm:request_prefill_time_seconds": ("From the queue to the first token", REQUEST_SECONDS),
    "vllm:request_decode_time_seconds": ("From the first token to the end of the text", REQUEST_SECONDS),
}
"""Histograms by name: description and the upper bounds of the buckets, all of vLLM's among them."""
COUNTERS: dict[str, str] = {
    "vllm:prompt_tokens": "Tokens of prompts that were processed",
    "vllm:generation_tokens": "Tokens that were generated",
    "vllm:prefix_cache_queries": "Tokens of prompts that were looked up in the prefix cache",
    "vllm:prefix_cache_hits": "Tokens of prompts whose states came from the prefix cache",
    "vllm:spec_decode_num_draft_tokens": "Tokens that prompt lookup guessed, which were verified",
    "vllm:spec_decode_num_accepted_tokens": "Guessed tokens that are in the texts",
}
"""Counters by name, to which `_total` is added, and their descriptions."""
FINISHED_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CANCELLED: "abort",
    FinishReason.FAILED: "error",
}
"""Finish reasons as vLLM calls them."""


class VllmMetrics:
    """Metrics of one server under vLLM's names; `model_name` is the base model, or all of them with commas."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, labels: AdapterLabels) -> None:
        model = ",".join(dict.fromkeys(part.info().base["name"] for part in engine.parts()))
        self.seconds = {
            name: Histogram(name, text, [MODEL], buckets=buckets, registry=registry).labels(model)
            for name, (text, buckets) in HISTOGRAMS.items()
        }
        self.token_seconds = ManyValuesHistogram(
            "vllm:inter_token_latency_seconds", "Time between two tokens of a text", TOKEN_SECONDS, {MODEL: model}
        )
        self.counts = {
            name: Counter(name, text, [MODEL], registry=registry).labels(model) for name, text in COUNTERS.items()
        }
        ended = Counter("vllm:request_success", "Texts by the reason of their end", [MODEL, REASON], registry=registry)
        self.ended = {reason: ended.labels(model, name) for reason, name in FINISHED_REASONS.items()}
        registry.register(self.token_seconds)
        registry.register(StatsCollector(engine, GAUGES, {MODEL: model}))
        registry.register(LoraRequestsInfo("vllm:lora_requests_info", engine, max_adapters=labels.limit))

    def request_finished(self, method: str, status: str, seconds: float) -> None:
        """Count nothing: vLLM has no such metric of a request over HTTP or gRPC."""

    def batch_finished(self, event: BatchFinished) -> None:
        """Count a batch of a classifier."""
        self.ended[FinishReason.STOP].inc(len(event.adapters))
        self.counts["vllm:prompt_tokens"].inc(event.tokens)
        for queued in event.queued_times:
            wait = event.start_time - queued
            self._observe("vllm:request_queue_time_seconds", wait)
            self._observe("vllm:request_prefill_time_seconds", event.run_seconds)
            self._observe("vllm:e2e_request_latency_seconds", wait + event.run_seconds)

    def sequence_finished(self, event: SequenceFinished) -> None:
        """Count a sequence of a generator."""
        self.ended[event.finish_reason].inc()
        self.counts["vllm:generation_tokens"].inc(event.generated_tokens)
        if event.queue_seconds is not None:
            self.counts["vllm:prompt_tokens"].inc(event.prompt_tokens)
        if event.cached_tokens is not None:
            self.counts["vllm:prefix_cache_queries"].inc(event.prompt_tokens)
            self.counts["vllm:prefix_cache_hits"].inc(event.cached_tokens)
        self.counts["vllm:spec_decode_num_draft_tokens"].inc(event.guessed_tokens)
        self.counts["vllm:spec_decode_num_accepted_tokens"].inc(event.accepted_tokens)
        self.token_seconds.observe(event.token_seconds)
        self._observe("vllm:e2e_request_latency_seconds", event.total_seconds)
        self._observe("vllm:request_queue_time_seconds", event.queue_seconds)
        self._observe("vllm:request_prefill_time_seconds", event.prefill_seconds)
        self._observe("vllm:time_to_first_token_seconds", event.first_token_seconds)
        self._observe("vllm:request_decode_time_seconds", event.decode_seconds)

    def _observe(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self.seconds[name].observe(seconds)

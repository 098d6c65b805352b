"""What Prometheus reads at /metrics."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.text_tokenizer import Row
from serve.generation.async_text_generator import AsyncGenerator
from serve.generation.request import Generation

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, whatever it does."""

    def __init__(self, engine: AsyncClassifier | AsyncGenerator) -> None:
        model, bank = engine.model, engine.model.bank
        self.registry = CollectorRegistry()
        self.requests = Counter("adamix_requests", "Requests by status code", ["code"], registry=self.registry)
        self.rows = Counter("adamix_rows", "Texts answered, by adapter", ["adapter"], registry=self.registry)
        self.tokens = Counter("adamix_tokens", "Tokens run", ["kind"], registry=self.registry)
        self.request_seconds = self.histogram("request_seconds", "From a request's arrival to its answer", SECONDS)
        self.gauge("queue_rows", "Rows waiting", lambda: engine.waiting)
        self.gauge("adapters", "Adapters served", lambda: len(model.cards))
        if bank is not None:
            self.gauge("slots", "Adapters that have room on the device at a time", lambda: bank.room)
            self.gauge("placed", "How often an adapter was written into a slot", lambda: bank.placed)
            self.gauge("adapters_in_host", "Adapters with their weights in host memory", lambda: len(bank.in_host))

    def histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        """Return a new histogram."""
        return Histogram(f"adamix_{name}", text, buckets=buckets, registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a value that is looked up whenever somebody asks."""
        Gauge(f"adamix_{name}", text, registry=self.registry).set_function(value)


class BatchMetrics(Metrics):
    """Of a server that classifies."""

    def __init__(self, engine: AsyncClassifier) -> None:
        super().__init__(engine)
        self.queue_seconds = self.histogram("queue_seconds", "Wait of a batch's oldest row", SECONDS)
        self.inference_seconds = self.histogram("inference_seconds", "One run of the graph", SECONDS)
        self.batch_rows = self.histogram("batch_rows", "Rows of a batch", ROWS)
        self.batch_adapters = self.histogram("batch_adapters", "Different adapters in a batch", ROWS)
        engine.batcher.on_batch = self.batch

    def batch(self, rows: Sequence[Row], waited: float, took: float) -> None:
        """Count a batch that ran: seconds waited by its oldest row, seconds taken by the graph."""
        self.queue_seconds.observe(waited)
        self.inference_seconds.observe(took)
        self.batch_rows.observe(len(rows))
        self.batch_adapters.observe(len({row.adapter.card.sha256 for row in rows}))
        tokens = sum(map(len, rows))
        self.tokens.labels("text").inc(tokens)
        self.tokens.labels("padding").inc(len(rows) * max(map(len, rows)) - tokens)
        for row in rows:
            self.rows.labels(row.adapter.card.name).inc()


class TextMetrics(Metrics):
    """Of a server that writes."""

    def __init__(self, engine: AsyncGenerator) -> None:
        super().__init__(engine)
        self.first_seconds = self.histogram("first_token_seconds", "From a text's arrival to its first token", SECONDS)
        self.token_seconds = self.histogram("token_seconds", "Between a text's tokens, on average", SECONDS)
        self.ended = Counter("adamix_ended", "Texts by how they ended", ["reason"], registry=self.registry)
        self.gauge("live_rows", "Rows that are being written", lambda: len(engine.engine.live))
        self.gauge("tokens_in_flight", "Tokens that the rows may come to", lambda: engine.engine.in_flight)
        engine.on_end = self.text

    def text(self, generation: Generation) -> None:
        """Count a text that has ended."""
        assert generation.ended is not None and generation.finished is not None
        self.rows.labels(generation.adapter.card.name).inc()
        self.ended.labels(generation.ended).inc()
        self.tokens.labels("read").inc(len(generation.reads))
        self.tokens.labels("written").inc(len(generation.tokens))
        if generation.began is not None:
            self.first_seconds.observe(generation.began - generation.submitted)
            if (steps := len(generation.tokens) - 1) > 0:
                self.token_seconds.observe((generation.finished - generation.began) / steps)


METRICS: dict[type, Callable[..., Metrics]] = {AsyncClassifier: BatchMetrics, AsyncGenerator: TextMetrics}
"""By engine."""

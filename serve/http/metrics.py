"""What Prometheus reads at /metrics."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.live import AsyncClassifier
from serve.tokens import Row

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server."""

    def __init__(self, engine: AsyncClassifier) -> None:
        bank, queue = engine.classifier.bank, engine.batcher
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"adamix_{name}", text, buckets=buckets, registry=self.registry)

        self.requests = Counter("adamix_requests", "Requests by status code", ["code"], registry=self.registry)
        self.rows = Counter("adamix_rows", "Texts answered, by adapter", ["adapter"], registry=self.registry)
        self.request_seconds = histogram("request_seconds", "From a request's arrival to its answer", SECONDS)
        self.queue_seconds = histogram("queue_seconds", "Wait of a batch's oldest row", SECONDS)
        self.inference_seconds = histogram("inference_seconds", "One run of the graph", SECONDS)
        self.batch_rows = histogram("batch_rows", "Rows of a batch", ROWS)
        self.batch_adapters = histogram("batch_adapters", "Different adapters in a batch", ROWS)
        self.tokens = Counter("adamix_tokens", "Tokens run, padding apart", ["kind"], registry=self.registry)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "queue_rows": ("Rows waiting", lambda: len(queue.queue)),
            "adapters": ("Adapters served", lambda: len(engine.classifier.cards)),
        }
        if bank is not None:
            gauges |= {
                "slots": ("Adapters that have room on the device at a time", lambda: bank.room),
                "placed": ("How often an adapter was written into a slot", lambda: bank.placed),
                "adapters_in_host": ("Adapters with their weights in host memory", lambda: len(bank.in_host)),
            }
        for name, (text, value) in gauges.items():
            Gauge(f"adamix_{name}", text, registry=self.registry).set_function(value)

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

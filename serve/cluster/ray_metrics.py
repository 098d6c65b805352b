"""A server's metrics among those of Ray, whose endpoint on each node Prometheus scrapes."""

import logging
import threading
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry
from ray.util.metrics import Counter, Gauge

logger = logging.getLogger(__name__)
PERIOD_SECONDS = 5.0
TOTAL = "_total"
LEFT_OUT = ("_created",)
"""Ends of the names of samples that say when a metric began."""


class RayMetrics:
    """Copies counters, gauges, and the sums, counts and buckets of histograms, until it ends.

    Ray adds `ray_` to the names, and labels for node and replica.
    """

    def __init__(self, registry: CollectorRegistry, *, period: float = PERIOD_SECONDS) -> None:
        """Copy from a registry, every `period` seconds."""
        self.registry, self.period = registry, period
        self.metrics: dict[str, Counter | Gauge] = {}
        self.before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="ray-metrics", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()

    def copy(self) -> None:
        """Copy the values of this moment."""
        for family in self.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith(LEFT_OUT):
                    self._set(family.type, family.documentation, sample.name, sample.labels, sample.value)

    def _run(self) -> None:
        while not self.ended.wait(self.period):
            try:
                self.copy()
            except Exception:
                logger.exception("the metrics were not passed on to Ray")

    def _set(self, kind: str, text: str, name: str, labels: dict[str, str], value: float) -> None:
        make = Counter if kind in ("counter", "histogram") else Gauge
        ray_name = name.replace(":", "_")  # of vLLM's metrics; Ray allows none
        metric = self.metrics.get(ray_name)
        if metric is None:
            metric = self.metrics[ray_name] = make(ray_name, description=text, tag_keys=tuple(labels))
        if isinstance(metric, Gauge):
            metric.set(value, tags=labels)
            return
        key = (name, tuple(sorted(labels.items())))
        grown = value - self.before.get(key, 0.0)
        self.before[key] = value
        if grown > 0:
            metric.inc(grown, tags=labels)

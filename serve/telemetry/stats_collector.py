"""Gauges that read an engine's stats, all of one moment."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.engine import Engine


class StatsCollector(Collector):
    """A gauge for each of some fields of an engine's stats, read once a scrape; those that are None are left out."""

    def __init__(self, engine: Engine, gauges: Mapping[str, tuple[str, str]], labels: Mapping[str, str]) -> None:
        """Describe gauges: by name their field of `EngineStats` and description, and labels that all of them have."""
        self.engine, self.gauges, self.labels = engine, gauges, labels

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        stats = self.engine.stats()
        for name, (field, text) in self.gauges.items():
            if (value := getattr(stats, field)) is not None:
                found = GaugeMetricFamily(name, text, labels=list(self.labels))
                found.add_metric(list(self.labels.values()), float(value))
                yield found

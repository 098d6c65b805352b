"""A histogram that takes many values at once: the times between all tokens of a text."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class ManyValuesHistogram(Collector):
    """A histogram of one series; prometheus_client's own takes a value at a time."""

    def __init__(self, name: str, text: str, buckets: Sequence[float], labels: Mapping[str, str]) -> None:
        """Create an empty histogram, with the upper bounds of its buckets in order."""
        self.name, self.text, self.labels = name, text, dict(labels)
        self.bounds = np.array(buckets)
        self.counts = np.zeros(len(buckets) + 1, np.int64)
        """Values in each bucket; the last one is beyond all bounds."""
        self.sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Count values; one that equals a bound is within it."""
        places = np.searchsorted(self.bounds, np.array(values, np.float64))
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.sum += float(np.sum(values))

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        found = HistogramMetricFamily(self.name, self.text, labels=list(self.labels))
        bounds = [*map(floatToGoString, self.bounds.tolist()), "+Inf"]
        counts = self.counts.cumsum().tolist()
        found.add_metric(list(self.labels.values()), list(zip(bounds, counts, strict=True)), self.sum)
        yield found

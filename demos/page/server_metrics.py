"""The server's metrics over time: snapshots of /metrics, and what happened between two of them."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from demos.page.server_client import PageError, ServerClient

WINDOW = 10
"""Seconds over which rates and percentiles are computed."""
ENDINGS: dict[str, str] = {"counter": "_total"}
"""Ending that the parser takes off a metric's name, by kind."""
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The metrics of one moment."""

    seconds: float
    """Time of a clock that only counts up."""
    values: Mapping[tuple[str, Labels], float]
    """Values by name and labels."""
    kinds: Mapping[str, str]
    """Metrics that the server has, with or without values, by name: `counter`, `gauge` or `histogram`."""

    def has(self, name: str) -> bool:
        """Return whether the server has a metric; it need not have a value yet."""
        return name in self.kinds

    def value(self, name: str) -> float | None:
        """Return a metric, summed over its labels; None if the server does not have it.

        A counter with labels has no line before it has counted for the first time: it is 0 until then.
        """
        found = [value for (one, _), value in self.values.items() if one == name]
        return sum(found) if found or self.kinds.get(name) == "counter" else None

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return a metric by the values of a label."""
        return {dict(labels)[label]: value for (one, labels), value in self.values.items() if one == name}

    def buckets(self, name: str) -> dict[float, float]:
        """Return how many values of a histogram are at most each bound."""
        return {float(bound): count for bound, count in self.by_label(f"{name}_bucket", "le").items()}


async def read_snapshot(client: ServerClient) -> Snapshot:
    """Return the server's metrics of this moment.

    Raises:
        PageError: It does not answer, or has no metrics.
    """
    text = await client.text("/metrics")
    try:
        return parse_snapshot(text, seconds=time.monotonic())
    except ValueError as error:
        raise PageError(f"What answers at {client.address} has no metrics of adamix-serve.") from error


def parse_snapshot(text: str, *, seconds: float) -> Snapshot:
    """Return the metrics of a response of /metrics.

    Raises:
        ValueError: The text is not in the format of Prometheus.
    """
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    return Snapshot(
        seconds=seconds,
        values={(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples},
        kinds={f"{family.name}{ENDINGS.get(family.type, '')}": family.type for family in families},
    )


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Changes between two snapshots."""

    first: Snapshot
    last: Snapshot

    def rate(self, name: str) -> float | None:
        """Return a counter's growth a second; None if the server does not have it."""
        seconds = self.last.seconds - self.first.seconds
        after = self.last.value(name)
        return None if after is None or seconds <= 0 else (after - (self.first.value(name) or 0.0)) / seconds

    def mean(self, name: str) -> float | None:
        """Return the mean of a histogram's values in between; None if there were none."""
        count = self._growth(f"{name}_count")
        return self._growth(f"{name}_sum") / count if count > 0 else None

    def percentile(self, name: str, share: float) -> float | None:
        """Return a histogram's percentile in between, interpolated within its bucket; None if there were no values.

        A value above the last bound counts as that bound.
        """
        before = self.first.buckets(name)
        return percentile(
            {bound: count - before.get(bound, 0) for bound, count in self.last.buckets(name).items()}, share
        )

    def _growth(self, name: str) -> float:
        return (self.last.value(name) or 0.0) - (self.first.value(name) or 0.0)


def percentile(buckets: Mapping[float, float], share: float) -> float | None:
    """Return the value below which a share of a cumulative histogram lies; None if it is empty."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= share * total:
            if math.isinf(bound):
                return low
            inside = buckets[bound] - below
            return low + (bound - low) * ((share * total - below) / inside if inside else 1.0)
        low, below = bound, buckets[bound]
    return low


def last_interval(snapshots: Sequence[Snapshot], *, window: float = WINDOW) -> Interval | None:
    """Return the interval of the last seconds; None before there are two snapshots, or if the server began anew."""
    if len(snapshots) < 2:
        return None
    last = snapshots[-1]
    first = next(one for one in snapshots if one.seconds >= last.seconds - window - 0.5)
    if first is last:
        first = snapshots[-2]
    begun_anew = any(
        value > last.values.get(key, 0.0) for key, value in first.values.items() if key[0].endswith("_total")
    )
    return None if begun_anew else Interval(first=first, last=last)

"""Gauges of adapters, whose series change while a server runs: those that routers read, and where adapters lie."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.engine import Engine
from serve.telemetry.adapter_labels import OTHER, AdapterLabels

MAX_LORA, RUNNING, WAITING = LORA_LABELS = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")


def joined(names: Iterable[str]) -> str:
    """Return names as a label's value, in the form that routers split: some take a space as part of a name."""
    return ",".join(sorted(names))


def split(value: str) -> list[str]:
    """Return the names in a value of `joined`."""
    return value.split(",") if value else []


class LoraRequestsInfo(Collector):
    """Adapters that are in slots and that wait, as the Gateway API Inference Extension reads them.

    Their names are labels, and the time is the value.
    """

    def __init__(self, name: str, engine: Engine, *, max_adapters: int) -> None:
        """Describe a gauge, which names at most so many adapters in each label: those in slots that were used last."""
        self.name, self.engine, self.max_adapters = name, engine, max_adapters

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge."""
        each = [part.stats() for part in self.engine.parts()]
        slots = sum(stats.adapters if stats.slots is None else stats.slots for stats in each)
        waiting = [name for name in sorted(self.engine.stats().waiting_adapters) if not self._is_base(name)]
        found = GaugeMetricFamily(self.name, "Adapters in slots and of waiting requests", labels=LORA_LABELS)
        lists = (
            joined(list(names)[: self.max_adapters]) for names in (self.engine.resident_adapters().in_slots, waiting)
        )
        found.add_metric([str(slots), *lists], time.time())
        yield found

    def _is_base(self, name: str) -> bool:
        model = self.engine.model(name)
        return model is not None and model.is_base


class AdapterResidency(Collector):
    """Each adapter of a bank by tier: 1 where its weights are; the label `other` counts the rest."""

    def __init__(self, name: str, engine: Engine, labels: AdapterLabels) -> None:
        self.name, self.engine, self.labels = name, engine, labels

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge; adapters that were not used get labels here if there are enough for all that are served."""
        residency = self.engine.resident_adapters()
        if self.engine.stats().adapters <= self.labels.limit:
            self.labels.add_all([*residency.in_slots, *residency.in_host])
        found = GaugeMetricFamily(self.name, "Adapters whose weights are in a tier", labels=("adapter", "tier"))
        for tier, names in (("slot", residency.in_slots), ("host", residency.in_host)):
            counts = dict.fromkeys([*sorted(self.labels.names), OTHER], 0)
            for name in names:
                counts[name if name in self.labels.names else OTHER] += 1
            for name, count in counts.items():
                found.add_metric([name, tier], count)
        yield found

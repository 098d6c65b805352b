"""The metrics of all workers as those of one server: counts are added up, gauges by a table.

Counters and histograms live in files of the private folder (prometheus_client's mode for several processes), so that
those of a worker that died still count. Everything else is asked of the workers that run.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serve.telemetry.adapter_collectors import MAX_LORA, RUNNING, WAITING, joined, split
from serve.workers.board import StatusBoard, WorkerState
from serve.workers.control import Refused, Unreachable, ask
from serve.workers.place import METRICS, control_socket

SERIES = "metrics"
"""The question that a worker answers with its families."""
SERIES_SECONDS = 1.0
"""Time that a worker has to answer; the gauges of one that hangs are left out."""
ANSWERING = (WorkerState.WARMING, WorkerState.READY)
Merge = Callable[[Sequence[float]], float]


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


GAUGES: dict[str, Merge] = {
    "adamix_healthy": min,
    "adamix_adapters": max,
    "adamix_adapters_in_host": max,
    "adamix_adapter_residency": max,
    "adamix_slots": max,
    "adamix_provider": max,
    "adamix_device_memory_bytes": max,
    "adamix_kv_cache_usage": mean,
    "vllm:kv_cache_usage_perc": mean,
}
"""Gauges that are no sums over the workers, by name."""
UNIONS = ("adamix_lora_requests_info", "vllm:lora_requests_info")
"""Gauges of `LoraRequestsInfo`, whose labels list adapters: one series with those of all workers."""
LISTS = (RUNNING, WAITING)
BY_WORKER = ("process_", "python_")
"""Beginnings of metrics of a process, which have a label `worker`."""
Family = tuple[str, str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, description, type and unit of a metric, and its samples: name, labels, value."""


class ServerMetrics:
    """The metrics of a server with several workers, as any of them gives them."""

    def __init__(self, registry: CollectorRegistry, board: StatusBoard, folder: Path, entry: int) -> None:
        """Add the workers' metrics up.

        Args:
            registry: The worker's own metrics, to whose order the sums keep.
            board: Says which workers there are.
            folder: The private folder.
            entry: This worker's entry of the board.
        """
        self.own, self.board, self.folder, self.entry = registry, board, folder, entry
        self.registry = CollectorRegistry()
        self.registry.register(WorkerCollector(board))
        self.registry.register(_Sums(self))

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its media type; blocks while workers answer."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def series(self, _: object = None) -> list[Family]:
        """Return this worker's own metrics for a sibling."""
        return [
            (
                one.name,
                one.documentation,
                one.type,
                one.unit,
                [(each.name, each.labels, each.value) for each in one.samples],
            )
            for one in self.own.collect()
        ]

    def sums(self) -> list[Metric]:
        """Return the metrics of all workers."""
        return merge(self._of_each_worker(), self._counted())

    def _counted(self) -> dict[str, Metric]:
        """Return the counters and histograms of all workers that ever ran, by name."""
        files = [
            str(file)
            for kind in ("counter", "histogram")
            for file in sorted((self.folder / METRICS).glob(f"{kind}_*.db"))
        ]
        return {one.name: one for one in MultiProcessCollector.merge(files)}

    def _of_each_worker(self) -> dict[int, list[Family]]:
        """Return the families of this worker, first, and of its siblings, by their numbers."""
        own = self.board.get(self.entry)
        siblings = [one for one in self.board.workers() if one.entry != self.entry and one.state in ANSWERING]
        found = {own.number if own else 0: self.series()}
        with ThreadPoolExecutor(max(1, len(siblings))) as threads:
            answers = threads.map(lambda one: self._ask(one.entry), siblings)
            for one, answer in zip(siblings, answers, strict=True):
                if answer is not None:
                    found.setdefault(one.number, answer)
        return found

    def _ask(self, entry: int) -> list[Family] | None:
        try:
            return ask(control_socket(self.folder, entry), SERIES, timeout=SERIES_SECONDS)
        except (Unreachable, Refused):
            return None


class WorkerCollector(Collector):
    """The workers themselves."""

    def __init__(self, board: StatusBoard) -> None:
        self.board = board

    def collect(self) -> Iterator[Metric]:
        """Yield how many workers are ready, and how many had to be restarted."""
        ready = sum(one.state is WorkerState.READY for one in self.board.workers())
        yield GaugeMetricFamily("adamix_workers", "Workers that are ready", value=ready)
        yield CounterMetricFamily(
            "adamix_worker_restarts", "Workers started in the place of one that died or hung", value=self.board.restarts
        )


class _Sums(Collector):
    def __init__(self, metrics: ServerMetrics) -> None:
        self.metrics = metrics

    def describe(self) -> list[Metric]:
        """Describe nothing: names are known when the workers have answered."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all workers."""
        return self.metrics.sums()


def merge(families: dict[int, list[Family]], counted: dict[str, Metric]) -> list[Metric]:
    """Return the metrics of a server.

    Args:
        families: The metrics of each worker that runs, by its number; the first gives the order.
        counted: Counters and histograms that are added up already, by name.
    """
    merged: dict[str, Metric] = {}
    samples: dict[str, dict[int, list[Sample]]] = {}
    for worker, each in families.items():
        for name, text, kind, unit, values in each:
            if name not in merged:
                merged[name] = Metric(name, text, kind, unit)
            samples.setdefault(name, {})[worker] = [Sample(*value) for value in values]
    for name, metric in merged.items():
        if name in counted:
            metric.samples = _with_zeros(counted.pop(name).samples, samples[name])
        elif name.startswith(BY_WORKER):
            metric.samples = [
                one._replace(labels={**one.labels, "worker": str(worker)})
                for worker, each in sorted(samples[name].items())
                for one in each
            ]
        else:
            metric.samples = _combined(name, [one for each in samples[name].values() for one in each])
    return [*merged.values(), *counted.values()]


def _with_zeros(found: Sequence[Sample], own: dict[int, list[Sample]]) -> list[Sample]:
    """Return samples, and those of the workers that have not been counted yet."""
    keys = {_key(one) for one in found}
    missing = {_key(one): one for each in own.values() for one in each if _key(one) not in keys}
    return [*found, *(one._replace(value=0.0) for one in missing.values() if not one.name.endswith("_created"))]


def _combined(name: str, samples: Sequence[Sample]) -> list[Sample]:
    """Return one sample for each set of labels."""
    if name in UNIONS and samples:
        return [_union(samples)]
    groups: dict[Any, list[Sample]] = {}
    for one in samples:
        groups.setdefault(_key(one), []).append(one)
    how: Merge = GAUGES.get(name, sum)
    return [each[0]._replace(value=how([one.value for one in each])) for each in groups.values()]


def _union(samples: Sequence[Sample]) -> Sample:
    """Return the newest sample, with the adapters of all in its labels.

    Those that run are no more than the slots of a worker: first the ones that most workers have in slots, so that a
    request finds them there whichever answers it.
    """
    newest = max(samples, key=lambda one: one.value)
    running, waiting = (Counter(name for one in samples for name in split(one.labels[label])) for label in LISTS)
    slots = max(int(one.labels[MAX_LORA]) for one in samples)
    first = sorted(running, key=lambda name: (-running[name], name))[:slots]
    labels = {MAX_LORA: str(slots), RUNNING: joined(first), WAITING: joined(waiting)}
    return newest._replace(labels={**newest.labels, **labels})


def _key(sample: Sample) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample.name, tuple(sorted(sample.labels.items()))

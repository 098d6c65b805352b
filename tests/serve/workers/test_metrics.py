from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric

from serve.engine import EngineStats, ResidentAdapters
from serve.telemetry.adapter_collectors import LoraRequestsInfo
from serve.workers.board import StatusBoard
from serve.workers.metrics import UNIONS, Family, ServerMetrics, merge
from tests.fixtures.toy_engine import ToyEngine


def gauge(name: str, *samples: tuple[dict[str, str], float], kind: str = "gauge") -> Family:
    return name, "text", kind, "", [(name, labels, value) for labels, value in samples]


def values(metric: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(one.labels.values()): one.value for one in metric.samples}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamix_queue_rows", 5.0),
        ("adamix_healthy", 1.0),
        ("adamix_adapters", 4.0),
        ("adamix_kv_cache_usage", 2.5),
        ("some_other", 5.0),
    ],
)
def test_gauges_are_combined_by_the_table(name: str, expected: float) -> None:
    (found,) = merge({0: [gauge(name, ({}, 1.0))], 1: [gauge(name, ({}, 4.0))]}, {})
    assert values(found) == {(): expected}


def test_labels_keep_series_apart() -> None:
    one, two = gauge("depth", ({"adapter": "a"}, 1.0), ({"adapter": "b"}, 2.0)), gauge("depth", ({"adapter": "a"}, 5.0))
    (found,) = merge({0: [one], 1: [two]}, {})
    assert values(found) == {("a",): 6.0, ("b",): 2.0}


def test_metrics_of_a_process_have_a_label_of_its_worker() -> None:
    name = "process_resident_memory_bytes"
    (found,) = merge({1: [gauge(name, ({}, 7.0))], 0: [gauge(name, ({}, 5.0))]}, {})
    assert values(found) == {("0",): 5.0, ("1",): 7.0}


@dataclass
class Slots(ToyEngine):
    """An engine with three slots, some adapters in them and some that wait."""

    in_slots: Sequence[str]
    waiting: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__init__()

    def stats(self) -> EngineStats:
        return replace(super().stats(), slots=3, waiting_adapters=frozenset(self.waiting))

    def resident_adapters(self) -> ResidentAdapters:
        return ResidentAdapters(in_slots=self.in_slots)

    def family(self, name: str) -> Family:
        """The gauge as a worker sends it to another."""
        registry = CollectorRegistry()
        registry.register(LoraRequestsInfo(name, self, max_adapters=100))
        metrics = ServerMetrics(registry, StatusBoard(1), Path(), 0)
        (found,) = metrics.series()
        return found


@pytest.mark.parametrize("name", UNIONS)
def test_lists_of_adapters_are_united_and_run_in_no_more_than_the_slots(name: str) -> None:
    workers = [Slots(["b", "a name"], waiting=["e"]), Slots(["d", "b"]), Slots([], waiting=["d"])]
    families = {number: [one.family(name)] for number, one in enumerate(workers)}
    (alone,) = merge({0: families[0]}, {})
    assert [tuple(one)[:2] for one in alone.samples] == [one[:2] for one in families[0][0][4]], "as one process has it"
    (found,) = merge(families, {})
    assert [one.labels for one in found.samples] == [
        {"max_lora": "3", "running_lora_adapters": "a name,b,d", "waiting_lora_adapters": "d,e"}
    ]
    (full,) = merge({0: [Slots(["a", "b", "c"]).family(name)], 1: [Slots(["x", "c", "y"]).family(name)]}, {})
    assert [one.labels["running_lora_adapters"] for one in full.samples] == ["a,b,c"], "of six, c first"


def test_what_is_counted_in_files_is_not_counted_twice() -> None:
    counted = CounterMetricFamily("adamix_rows", "text", labels=["adapter"])
    counted.add_metric(["a"], 9.0)
    own: Family = ("adamix_rows", "text", "counter", "", [("adamix_rows_total", {"adapter": "a"}, 4.0)])
    idle: Family = ("adamix_idle", "text", "counter", "", [("adamix_idle_total", {}, 0.0)])
    found = {one.name: one for one in merge({0: [own, idle]}, {"adamix_rows": counted})}
    assert values(found["adamix_rows"]) == {("a",): 9.0}
    assert values(found["adamix_idle"]) == {(): 0.0}


def test_series_of_a_worker_that_died_are_kept() -> None:
    counted = CounterMetricFamily("adamix_gone", "text", value=3.0)
    (found,) = merge({0: []}, {"adamix_gone": counted})
    assert values(found) == {(): 3.0}

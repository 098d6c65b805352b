import pytest
from prometheus_client.core import CounterMetricFamily, Metric

from serve.workers.metrics import Family, merge


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


def test_lists_of_adapters_are_united() -> None:
    name = "adamix_lora_requests_info"
    labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
    one = gauge(name, (dict(zip(labels, ("4", "a, b", ""), strict=True)), 10.0))
    two = gauge(name, (dict(zip(labels, ("4", "b, c", "d"), strict=True)), 11.0))
    (found,) = merge({0: [one], 1: [two]}, {})
    assert values(found) == {("4", "a, b, c", "d"): 11.0}


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

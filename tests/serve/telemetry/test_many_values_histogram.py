from prometheus_client import CollectorRegistry, Histogram, generate_latest

from serve.telemetry.many_values_histogram import ManyValuesHistogram

BUCKETS = (0.25, 0.5, 1.0)
VALUES = [0.125, 0.25, 0.375, 0.5, 0.75, 2.0, 4.0]
"""Two within the first bound, which one equals; two within the second; one within the third; two beyond."""


def exposed(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_values_are_counted_as_prometheus_client_counts_them_one_by_one() -> None:
    many, one = CollectorRegistry(), CollectorRegistry()
    histogram = ManyValuesHistogram("seconds", "Times", BUCKETS, {"model_name": "m"})
    many.register(histogram)
    reference = Histogram("seconds", "Times", ["model_name"], buckets=BUCKETS, registry=one).labels("m")
    for part in ([], VALUES[:3], VALUES[3:]):
        histogram.observe(part)
        for value in part:
            reference.observe(value)
    assert exposed(many) == exposed(one)
    assert 'seconds_bucket{le="0.5",model_name="m"} 4.0' in exposed(many)
    assert f'seconds_sum{{model_name="m"}} {sum(VALUES)}' in exposed(many)

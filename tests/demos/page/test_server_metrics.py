"""Rates and percentiles of two looks at the metrics, compared with counts by hand."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from demos.page.live_tab import PLOTS, History, render
from demos.page.plots import Line, plot
from demos.page.server_metrics import Interval, Snapshot, last_interval, parse_snapshot, percentile


class Server:
    """Metrics as a server has them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter("adamix_rows", "", ["adapter"], registry=self.registry)
        self.seconds = Histogram("adamix_request_seconds", "", buckets=(0.1, 0.2, 0.4), registry=self.registry)

    def look(self, seconds: float) -> Snapshot:
        return parse_snapshot(generate_latest(self.registry).decode(), seconds=seconds)


def test_rates_means_and_percentiles_are_of_what_happened_in_between() -> None:
    server = Server()
    server.rows.labels("tone").inc(100)
    server.seconds.observe(0.35)
    first = server.look(10.0)
    server.rows.labels("tone").inc(6)
    server.rows.labels("intent").inc(2)
    for value in (0.05, 0.15, 0.15, 0.15):
        server.seconds.observe(value)
    interval = Interval(first=first, last=server.look(14.0))
    assert interval.rate("adamix_rows_total") == pytest.approx(2.0)
    assert interval.mean("adamix_request_seconds") == pytest.approx(0.125)
    # Of four values one is in the first bucket: the half of them ends a third into the second one.
    assert interval.percentile("adamix_request_seconds", 0.5) == pytest.approx(0.1 + 0.1 / 3)
    assert interval.rate("adamix_other_total") is None
    assert interval.percentile("adamix_other", 0.5) is None


def test_a_value_above_the_last_bound_counts_as_that_bound() -> None:
    assert percentile({0.1: 0, 0.2: 0, float("inf"): 5}, 0.99) == 0.2
    assert percentile({0.1: 0, float("inf"): 0}, 0.5) is None


def test_the_interval_is_that_of_the_last_seconds_and_none_after_the_server_began_anew() -> None:
    server = Server()
    looks = [server.look(float(second)) for second in range(20)]
    found = last_interval(looks, window=5)
    assert found is not None and (found.first.seconds, found.last.seconds) == (14.0, 19.0)
    assert last_interval(looks[:1]) is None
    server.rows.labels("tone").inc()
    assert last_interval([server.look(0.0), server.look(1.0)]) is not None
    assert last_interval([server.look(0.0), Server().look(1.0)]) is None
    fallen = Server()
    fallen.rows.labels("tone").inc(0)
    assert last_interval([server.look(0.0), fallen.look(1.0)]) is None


def test_a_plot_says_its_newest_values_and_leaves_gaps() -> None:
    drawn = plot("Latency", [Line(name="p50", points=[1.0, None, 3.0, 4.0])], unit=" ms", count=4)
    assert 'aria-label="Latency: p50 4 ms"' in drawn
    (path,) = [part for part in drawn.split('"') if part.startswith("M")]
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_a_server_that_has_done_nothing_has_a_rate_of_0_and_no_latency_yet() -> None:
    server = Server()
    interval = Interval(first=server.look(0.0), last=server.look(1.0))
    assert interval.rate("adamix_rows_total") == 0
    assert interval.rate("adamix_requests_total") is None
    history = History()
    history.add(interval.first)
    history.add(interval.last)
    shown = render(history)
    assert 'aria-label="Throughput: texts 0/s"' in shown
    assert 'aria-label="Latency of requests: nothing yet"' in shown
    absent = set(PLOTS) - {"Throughput", "Latency of requests"}
    assert not [title for title in absent if title in shown]
    server.rows.labels("tone").inc(3)
    server.seconds.observe(0.15)
    history.add(server.look(2.0))
    shown = render(history)
    assert 'aria-label="Throughput: texts 1.5/s"' in shown
    assert 'aria-label="Latency of requests: p50 150 ms, p95 195 ms, p99 199 ms"' in shown
    assert "<figcaption>Latency of requests, ms</figcaption>" in shown
    assert "Drawn since you opened this tab, at most 120 s" in shown

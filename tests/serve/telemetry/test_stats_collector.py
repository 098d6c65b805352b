from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serve.telemetry.stats_collector import StatsCollector
from tests.fixtures.toy_engine import ToyEngine

GAUGES = {"waiting": ("waiting", "Texts"), "usage": ("kv_cache_usage", "Share")}


def test_a_scrape_reads_the_stats_once_and_leaves_out_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, registry, reads = ToyEngine(), CollectorRegistry(), []
    stats = replace(engine.stats(), waiting=3)
    monkeypatch.setattr(engine, "stats", lambda: reads.append(1) or stats)
    registry.register(StatsCollector(engine, GAUGES, {"model_name": "m"}))
    reads.clear()
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == ['waiting{model_name="m"} 3.0']
    assert len(reads) == 1

from dataclasses import replace

import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.generated_text import FinishReason
from serve.telemetry.prometheus import MetricOptions, Metrics
from serve.telemetry.vllm_metrics import HISTOGRAMS, TOKEN_SECONDS
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.telemetry.events import BATCH, NEVER_BEGUN, SEQUENCE

NAMES = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:request_success_total",
    "vllm:lora_requests_info",
}
VLLM_BOUNDS = {
    "vllm:time_to_first_token_seconds": "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 "
    "20 40 80 160 640 2560",
    "vllm:e2e_request_latency_seconds": "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680",
}
REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "failed": "error"}
TOKEN_BOUNDS = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80"


def lines(metrics: Metrics) -> list[str]:
    return metrics.exposition()[0].decode().splitlines()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(ToyEngine(), MetricOptions(sets=["vllm"]))


def value(metrics: Metrics, sample: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(sample, {"model_name": "toy", **labels})
    assert found is not None, sample
    return found


def test_the_names_are_those_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ToyEngine()
    stats = replace(engine.stats(), tokens_in_flight=30, max_tokens_in_flight=120, running=2, waiting=5)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    metrics = Metrics(engine, MetricOptions(sets=["vllm"]))
    names = {line.split()[2] for line in lines(metrics) if line.startswith("# TYPE")}
    assert {name for name in names if not name.endswith("_created")} == NAMES
    assert value(metrics, "vllm:num_requests_running") == 2
    assert value(metrics, "vllm:num_requests_waiting") == 5
    assert value(metrics, "vllm:kv_cache_usage_perc") == 0.25


@pytest.mark.parametrize("name", VLLM_BOUNDS)
def test_all_bounds_of_vllm_are_among_the_buckets(name: str) -> None:
    assert {*map(float, VLLM_BOUNDS[name].split())} <= {*HISTOGRAMS[name][1]}
    assert {*map(float, TOKEN_BOUNDS.split())} <= {*TOKEN_SECONDS}
    for bounds in (HISTOGRAMS[name][1], TOKEN_SECONDS):
        assert list(bounds) == sorted(bounds)


def test_a_sequence_is_counted_with_each_part_of_its_time(metrics: Metrics) -> None:
    metrics.record(SEQUENCE)
    assert value(metrics, "vllm:prompt_tokens_total") == 40
    assert value(metrics, "vllm:generation_tokens_total") == 5
    assert value(metrics, "vllm:prefix_cache_queries_total") == 40
    assert value(metrics, "vllm:prefix_cache_hits_total") == 32
    assert value(metrics, "vllm:spec_decode_num_draft_tokens_total") == 7
    assert value(metrics, "vllm:spec_decode_num_accepted_tokens_total") == 3
    assert value(metrics, "vllm:time_to_first_token_seconds_sum") == 0.5
    assert value(metrics, "vllm:request_queue_time_seconds_sum") == 0.1875
    assert value(metrics, "vllm:request_prefill_time_seconds_sum") == 0.25
    assert value(metrics, "vllm:request_decode_time_seconds_sum") == 2.0
    assert value(metrics, "vllm:e2e_request_latency_seconds_sum") == 2.5
    assert value(metrics, "vllm:inter_token_latency_seconds_sum") == 2.0
    assert value(metrics, "vllm:inter_token_latency_seconds_count") == 4
    assert value(metrics, "vllm:inter_token_latency_seconds_bucket", le="0.3") == 2
    assert value(metrics, "vllm:inter_token_latency_seconds_bucket", le="0.5") == 3


@pytest.mark.parametrize(("reason", "name"), REASONS.items())
def test_finish_reasons_are_called_as_vllm_calls_them(metrics: Metrics, reason: str, name: str) -> None:
    assert value(metrics, "vllm:request_success_total", finished_reason=name) == 0
    metrics.record(replace(SEQUENCE, finish_reason=FinishReason(reason)))
    assert value(metrics, "vllm:request_success_total", finished_reason=name) == 1


def test_a_sequence_that_never_began_has_its_end_and_nothing_else(metrics: Metrics) -> None:
    metrics.record(NEVER_BEGUN)
    assert value(metrics, "vllm:request_success_total", finished_reason="abort") == 1
    assert value(metrics, "vllm:e2e_request_latency_seconds_sum") == 4.0
    for name in (
        "vllm:prompt_tokens_total",
        "vllm:prefix_cache_queries_total",
        "vllm:request_queue_time_seconds_count",
    ):
        assert value(metrics, name) == 0


def test_a_text_of_a_classifier_is_a_request_that_is_prefilled_and_stops(classifier: Classifier) -> None:
    metrics = Metrics(AsyncClassifier(classifier), MetricOptions(sets=["vllm"]))
    metrics.record(BATCH)

    def counted(sample: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(sample, {"model_name": "tiny", **labels})

    assert counted("vllm:request_success_total", finished_reason="stop") == 3
    assert counted("vllm:prompt_tokens_total") == 9
    assert counted("vllm:request_queue_time_seconds_sum") == 0.75
    assert counted("vllm:request_prefill_time_seconds_sum") == 0.75
    assert counted("vllm:e2e_request_latency_seconds_sum") == 1.5
    assert counted("vllm:time_to_first_token_seconds_count") == 0


def test_several_bundles_are_one_series_with_the_names_of_their_bases(classifier: Classifier) -> None:
    engine = CombinedEngine([AsyncClassifier(classifier), ToyEngine()])
    metrics = Metrics(engine, MetricOptions(sets=["vllm"]))
    for event in (BATCH, SEQUENCE):
        metrics.record(event)
    shown = [
        line for line in lines(metrics) if line.startswith(("vllm:prompt_tokens_total", "vllm:lora_requests_info"))
    ]
    assert 'vllm:prompt_tokens_total{model_name="tiny,toy"} 49.0' in shown
    assert any('running_lora_adapters="intent,tone,toy"' in line for line in shown)
    assert len(shown) == 2

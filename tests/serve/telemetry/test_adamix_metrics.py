from dataclasses import replace

import httpx
import pytest
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.engine import DeviceInfo, EngineInfo
from serve.generated_text import FinishReason
from serve.http.app import make_app
from serve.telemetry.prometheus import MetricOptions, Metrics
from tests.fixtures.metrics import metrics_with
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.telemetry.events import BATCH, NEVER_BEGUN, SEQUENCE


def test_requests_rows_and_batches_are_counted(client: httpx.Client) -> None:
    client.post("/predict", json={"inputs": [["good"], ["bad"]], "adapter": ["tone", "intent"]})
    client.post("/predict", json={"inputs": "good", "adapter": "mood"})
    metrics_with(
        client,
        'adamix_rows_total{adapter="tone"} 1.0',
        'adamix_requests_total{code="404",method="POST"} 1.0',
        "adamix_batch_adapters_count 1.0",
    )


def test_slots_are_reported(client: httpx.Client) -> None:
    client.post("/predict", json={"inputs": "good", "adapter": "tone"})
    text = client.get("/metrics").text
    for line in ("adamix_slots 2.0", "adamix_placed 2.0", "adamix_adapters 2.0", "adamix_adapters_in_host 2.0"):
        assert line in text


def test_sequences_are_counted_from_events() -> None:
    engine = ToyEngine()
    with TestClient(make_app(engine)) as client:
        engine.report(SEQUENCE)
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'adamix_rows_total{adapter="toy"} 1.0',
        'adamix_ended_total{reason="length"} 1.0',
        'adamix_tokens_total{kind="read"} 40.0',
        'adamix_tokens_total{kind="cached"} 32.0',
        'adamix_tokens_total{kind="written"} 5.0',
        "adamix_queue_seconds_sum 0.1875",
        "adamix_prefill_seconds_sum 0.25",
        "adamix_first_token_seconds_sum 0.5",
        "adamix_token_seconds_sum 0.5",
        "adamix_token_seconds_count 1.0",
    ):
        assert line in lines


def test_a_sequence_that_never_began_has_read_nothing() -> None:
    engine = ToyEngine()
    metrics = Metrics(engine)
    engine.report(NEVER_BEGUN)
    text = metrics.exposition()[0].decode()
    assert 'adamix_ended_total{reason="cancelled"} 1.0' in text
    assert "adamix_queue_seconds_count 0.0" in text
    assert 'kind="read"' not in text


def test_the_wait_of_every_row_of_a_batch_is_counted(classifier: Classifier) -> None:
    metrics = Metrics(AsyncClassifier(classifier))
    metrics.record(BATCH)
    lines = metrics.exposition()[0].decode().splitlines()
    for line in (
        "adamix_queue_seconds_count 3.0",
        "adamix_queue_seconds_sum 0.75",
        "adamix_inference_seconds_sum 0.25",
        "adamix_batch_rows_sum 3.0",
        "adamix_batch_adapters_sum 2.0",
        'adamix_rows_total{adapter="tone"} 2.0',
        'adamix_tokens_total{kind="text"} 9.0',
        'adamix_tokens_total{kind="padding"} 3.0',
    ):
        assert line in lines


@pytest.mark.parametrize("name", ["slots", "placed", "adapters_in_host", "adapter_residency", "tokens_in_flight"])
def test_an_engine_has_no_metrics_of_parts_that_it_lacks(name: str) -> None:
    """The toy has no bank, no batches and no cache."""
    with TestClient(make_app(ToyEngine())) as client:
        assert f"adamix_{name}" not in client.get("/metrics").text


class OnGpu(ToyEngine):
    """A toy on a GPU."""

    def info(self) -> EngineInfo:
        gpu = DeviceInfo(name="NVIDIA H100", memory_bytes=85_000_000_000)
        return replace(super().info(), provider="CUDAExecutionProvider", device=gpu)


def test_the_provider_and_its_device_are_told() -> None:
    with TestClient(make_app(OnGpu())) as client:
        lines = client.get("/metrics").text.splitlines()
    assert 'adamix_provider{device="NVIDIA H100",provider="CUDAExecutionProvider"} 1.0' in lines
    assert "adamix_device_memory_bytes 8.5e+10" in lines
    with TestClient(make_app(ToyEngine())) as client:
        lines = client.get("/metrics").text.splitlines()
    assert 'adamix_provider{device="cpu",provider="none"} 1.0' in lines
    assert not any(line.startswith("adamix_device_memory_bytes") for line in lines)


@pytest.mark.parametrize("reason", list(FinishReason))
def test_a_text_that_was_cut_off_is_not_counted_as_answered(reason: FinishReason) -> None:
    engine = ToyEngine()
    metrics = Metrics(engine)
    engine.report(replace(SEQUENCE, finish_reason=reason))
    answered = reason in ("stop", "length")
    text = metrics.exposition()[0].decode()
    assert ('adamix_rows_total{adapter="toy"} 1.0' in text) is answered
    assert f'adamix_ended_total{{reason="{reason}"}} 1.0' in text


def test_the_share_of_the_cache_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ToyEngine()
    stats = replace(engine.stats(), tokens_in_flight=30, max_tokens_in_flight=120, running=3)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    lines = Metrics(engine).exposition()[0].decode().splitlines()
    assert {"adamix_kv_cache_usage 0.25", "adamix_running_rows 3.0"} <= set(lines)


def test_adapters_beyond_a_number_share_a_label() -> None:
    engine = ToyEngine()
    metrics = Metrics(engine, MetricOptions(max_adapters=2))
    for name in ("a", "b", "c", "a", "d"):
        engine.report(replace(SEQUENCE, adapter=name))
    shown = [line for line in metrics.exposition()[0].decode().splitlines() if line.startswith("adamix_rows_total")]
    assert shown == [
        'adamix_rows_total{adapter="a"} 2.0',
        'adamix_rows_total{adapter="b"} 1.0',
        'adamix_rows_total{adapter="other"} 2.0',
    ]

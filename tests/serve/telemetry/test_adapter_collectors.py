import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from serve.engine import EngineStats, ResidentAdapters
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.telemetry.adapter_collectors import AdapterResidency, LoraRequestsInfo
from serve.telemetry.adapter_labels import AdapterLabels
from tests.fixtures.hand_computed_decoder import HandComputedDecoder, write_decoder_bundle
from tests.fixtures.toy_engine import ToyEngine


class Busy(ToyEngine):
    """Three adapters in four slots, the last used of which is c; two that wait."""

    def stats(self) -> EngineStats:
        return replace(super().stats(), slots=4, waiting_adapters=frozenset({"d", "b"}))

    def resident_adapters(self) -> ResidentAdapters:
        return ResidentAdapters(in_slots=["c", "b", "a"], in_host=["a", "b", "c", "d"])


def info(engine: ToyEngine, *, max_adapters: int) -> tuple[dict[str, str], float]:
    """Labels and value of the one series."""
    (metric,) = LoraRequestsInfo("info", engine, max_adapters=max_adapters).collect()
    (sample,) = metric.samples
    assert metric.type == "gauge"
    return sample.labels, sample.value


def test_adapters_in_slots_and_those_that_wait_are_labels_and_the_time_is_the_value() -> None:
    labels, value = info(Busy(), max_adapters=100)
    assert labels == {"max_lora": "4", "running_lora_adapters": "a,b,c", "waiting_lora_adapters": "b,d"}
    assert value == pytest.approx(time.time(), abs=5)


def test_the_adapters_that_were_used_last_are_named_where_there_are_too_many() -> None:
    assert info(Busy(), max_adapters=2)[0]["running_lora_adapters"] == "b,c"


def test_all_adapters_of_a_merged_bundle_are_ready() -> None:
    labels, _ = info(ToyEngine(), max_adapters=100)
    assert labels == {"max_lora": "1", "running_lora_adapters": "toy", "waiting_lora_adapters": ""}


@pytest.fixture
def generator(decoder: HandComputedDecoder, tmp_path: Path) -> Generator:
    """Three adapters, one slot, and room for the weights of two in host memory."""
    folder = write_decoder_bundle(tmp_path / "bundle", decoder)
    return Generator(folder, provider="cpu", threads=1, slots=1, host_adapters=2)


def residency(generator: Generator, labels: AdapterLabels) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(AdapterResidency("residency", AsyncTextGenerator(generator), labels))
    (metric,) = registry.collect()
    return {(one.labels["adapter"], one.labels["tier"]): one.value for one in metric.samples}


def test_residency_follows_the_adapters_that_requests_name(generator: Generator) -> None:
    labels = AdapterLabels(100)
    for name in ("north", "south", "west"):
        generator(labels.of(name), adapter=name)
    expected = {
        ("north", "slot"): 0,
        ("south", "slot"): 0,
        ("west", "slot"): 1,
        ("other", "slot"): 0,
        ("north", "host"): 0,
        ("south", "host"): 1,
        ("west", "host"): 1,
        ("other", "host"): 0,
    }
    assert residency(generator, labels) == expected
    generator("good", adapter="north")
    moved = residency(generator, labels)
    assert [name for (name, tier), value in moved.items() if tier == "slot" and value] == ["north"]
    assert [name for (name, tier), value in moved.items() if tier == "host" and value] == ["north", "west"]


def test_adapters_that_were_not_used_have_labels_where_there_are_enough(generator: Generator) -> None:
    found = residency(generator, AdapterLabels(3))
    assert {name for name, _ in found} == {"south", "west", "other"}  # their canary rows ran last
    assert {name for name, _ in residency(generator, AdapterLabels(2))} == {"other"}


def test_adapters_without_labels_are_counted_together(generator: Generator) -> None:
    labels = AdapterLabels(2)
    labels.of("south")
    for name in ("south", "west"):
        generator("good", adapter=name)
    found = residency(generator, labels)
    assert found == {("south", "slot"): 0, ("other", "slot"): 1, ("south", "host"): 1, ("other", "host"): 1}


def test_an_adapter_that_is_unloaded_is_nowhere(generator: Generator) -> None:
    generator("good", adapter="west")
    generator.unload("west")
    assert "west" not in AsyncTextGenerator(generator).resident_adapters().in_slots

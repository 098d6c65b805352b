"""The table of metrics in docs/serve.md, against what a server with every part has."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.engine import DeviceInfo, EngineInfo
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.telemetry.prometheus import METRIC_SETS, MetricOptions, Metrics
from tests.fixtures.hand_computed_decoder import HandComputedDecoder, write_decoder_bundle
from tests.serve.telemetry.events import BATCH, SEQUENCE

DOCUMENT = Path(__file__).parents[3] / "docs/serve.md"
NAME = re.compile(r"`((?:adamix_|vllm:)\w+)(?:\{([\w,]+)\})?`")
OF_ALL_SERIES = {"model_name"}
"""Labels that the text has for all metrics of a set."""


class OnGpu(AsyncTextGenerator):
    """A generator that says that it is on a GPU, whose memory is a metric."""

    def info(self) -> EngineInfo:
        return replace(super().info(), device=DeviceInfo(name="NVIDIA H100", memory_bytes=85_000_000_000))


@pytest.fixture
def engine(classifier: Classifier, decoder: HandComputedDecoder, tmp_path: Path) -> CombinedEngine:
    folder = write_decoder_bundle(tmp_path / "decoder", decoder)
    return CombinedEngine([AsyncClassifier(classifier), OnGpu(Generator(folder, provider="cpu", threads=1))])


def documented(name_set: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Names in the column of a set, with their labels."""
    section = DOCUMENT.read_text("utf-8").split("## Metrics\n")[1].split("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in section.splitlines() if line.startswith("| ")]
    place = rows[0].index(f"`{name_set}`")
    for row in rows[1:]:
        for name, labels in NAME.findall(row[place]):
            yield name, frozenset(filter(None, labels.split(",")))


@pytest.mark.parametrize("name_set", METRIC_SETS)
def test_the_documented_names_and_labels_are_those_of_a_scrape(name_set: str, engine: CombinedEngine) -> None:
    metrics = Metrics(engine, MetricOptions(sets=[name_set]))
    for event in (BATCH, SEQUENCE):
        metrics.record(event)
    metrics.request_finished("POST", "200", 0.1)
    scraped = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        if family.type == "counter" or not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            scraped[name] = frozenset(labels - OF_ALL_SERIES - {"le"})
    assert dict(documented(name_set)) == scraped


def test_every_kind_of_token_and_tier_is_in_the_text(engine: CombinedEngine) -> None:
    metrics = Metrics(engine)
    for event in (BATCH, SEQUENCE):
        metrics.record(event)
    text, document = metrics.exposition()[0].decode(), DOCUMENT.read_text("utf-8")
    for value in re.findall(r'(?:kind|tier)="(\w+)"', text):
        assert f"`{value}`" in document

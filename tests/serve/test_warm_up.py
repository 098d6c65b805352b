import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText
from serve.combined_engine import CombinedEngine
from serve.engine import BundleEngine, Engine, Event
from serve.errors import ClassificationFailed
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.limits import BatchLimits, GenerationLimits
from serve.prediction import Prediction
from serve.warm_up import CPU_SHAPES, DEVICE_SHAPES, GENERATING_SHAPES, MAX_TOKENS
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.serve.conftest import Reference, write_bundle


def warmed(engine: Engine) -> list[Event]:
    """The events of an engine that warms up."""
    events: list[Event] = []

    async def run() -> None:
        engine.subscribe(events.append)
        await engine.start()
        await engine.warm_up()
        await engine.drain()

    asyncio.run(run())
    return events


@pytest.fixture
def batches(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bool]]:
    """Rows, tokens of the longest row and the flag `alone` of each batch that the classifier runs."""
    run, found = classifier.run, []

    def noted(rows: Sequence[EncodedText], alone: bool) -> list[Prediction]:
        found.append((len(rows), max(map(len, rows)), alone))
        return run(rows, alone)

    monkeypatch.setattr(classifier, "run", noted)
    return found


def test_a_classifier_runs_one_row_and_many_and_nobody_hears_of_it(
    classifier: Classifier, batches: list[tuple[int, int, bool]]
) -> None:
    assert warmed(AsyncClassifier(classifier)) == []
    # The adapters of this bundle read 8 tokens.
    assert batches == [(1, 8, True), (1, 8, True), (8, 8, True), (64, 8, True), (1, 8, True)]


def test_batches_that_run_side_by_side_run_so_in_the_warm_up(bundle_folder: Path) -> None:
    classifier = Classifier(bundle_folder, provider="cpu", threads=1, streams=2)
    ran: list[bool] = []
    run = classifier.run

    def noted(rows: Sequence[EncodedText], alone: bool) -> list[Prediction]:
        ran.append(alone)
        return run(rows, alone)

    classifier.run = noted  # type: ignore[method-assign]
    warmed(AsyncClassifier(classifier, BatchLimits(max_batch_tokens=64)))
    assert {False, True} == set(ran)


def test_texts_for_pairs_are_pairs(tmp_path: Path, reference: Reference, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write_bundle(tmp_path / "match", reference, ["match"])
    warmed(AsyncClassifier(Classifier(bundle, provider="cpu", threads=1)))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("queued", "rows"), [(8, [1, 1, 8, 1]), (20, [1, 1, 8, 16, 1]), (3, [1, 1, 2, 1])])
def test_a_short_queue_is_filled_as_far_as_it_goes(
    queued: int,
    rows: list[int],
    classifier: Classifier,
    batches: list[tuple[int, int, bool]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    warmed(AsyncClassifier(classifier, BatchLimits(max_queued_requests=queued)))
    assert [count for count, *_ in batches] == rows
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_generator_with_little_room_is_warmed_with_short_texts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = GenerationLimits(max_tokens_in_flight=24, max_queued_requests=2)
    bundle = write_byte_bundle(tmp_path / "bytes", HERMES)
    engine = AsyncTextGenerator(Generator(bundle, provider="cpu", threads=1, limits=limits))
    assert warmed(engine) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_shape_that_fails_is_named(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(rows: Sequence[EncodedText], alone: bool) -> list[Prediction]:
        raise ClassificationFailed("the logits are not finite")

    monkeypatch.setattr(classifier, "run", fails)
    warmed(AsyncClassifier(classifier))
    assert "no warm-up with 8 rows of 16 tokens: " in caplog.text


def test_a_generator_generates_with_few_rows_and_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = AsyncTextGenerator(Generator(write_byte_bundle(tmp_path / "bytes", HERMES), provider="cpu", threads=1))
    assert warmed(engine) == []
    assert engine.scheduler.buckets.runner.cache.rows == max(rows for rows, _ in GENERATING_SHAPES)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_several_bundles_warm_up_one_after_the_other(
    tmp_path: Path, classifier: Classifier, reference: Reference
) -> None:
    generator = AsyncTextGenerator(Generator(write_byte_bundle(tmp_path / "bytes", HERMES), provider="cpu", threads=1))
    engines: list[BundleEngine] = [AsyncClassifier(classifier), generator]
    assert warmed(CombinedEngine(engines)) == []
    assert classifier.bank is not None
    assert classifier.bank.slot_writes >= 1


def test_shapes_on_a_device_are_those_that_are_captured() -> None:
    from serve.classification.executor import captured_shape

    assert all(captured_shape(*shape, MAX_TOKENS) == shape for shape in DEVICE_SHAPES)
    assert len(set(DEVICE_SHAPES)) == len(DEVICE_SHAPES) > len(CPU_SHAPES)

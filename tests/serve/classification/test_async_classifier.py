import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve import AsyncClassifier, BatchLimits, Classifier, Prediction
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.reader import Bundle
from serve.classification.text_tokenizer import EncodedText
from serve.errors import ClassificationFailed, InputError, ShuttingDown
from serve.request_context import RequestContext, current_request
from serve.requests import ClassificationRequest, Text
from serve.telemetry.logs import request_of
from tests.serve.conftest import LABELS, WORDS, Reference, write_adapter, write_bundle

NAMES = ["tone", "intent", "grade"]
WORD = st.sampled_from(WORDS[4:])
TEXT = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
CALLS = st.lists(st.lists(st.tuples(TEXT, st.sampled_from(NAMES)), min_size=1, max_size=5), min_size=1, max_size=6)


async def classify(
    engine: AsyncClassifier,
    texts: list[Text],
    *,
    windows: bool,
    max_windows: int | None = None,
    overlap: int | None = None,
) -> list[Prediction]:
    """Classify through the adapter tone, with a bound on the windows as a server sets it."""
    return await engine.classify(
        ClassificationRequest(
            texts=texts,
            adapters=["tone"] * len(texts),
            truncate=True,
            windows=windows,
            overlap=overlap,
            max_windows=max_windows,
        )
    )


@pytest.fixture(scope="module")
def few_slots(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Classifier:
    """Three adapters, two slots, and two batches side by side."""
    folder = write_bundle(tmp_path_factory.mktemp("bank") / "bundle", reference, NAMES)
    return Classifier(folder, provider="cpu", threads=1, slots=2, streams=2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=CALLS, tokens=st.integers(8, 64), rows=st.integers(1, 8))
def test_whatever_comes_together_each_answer_is_that_of_the_text_alone(
    calls: list[list[tuple[str, str]]], tokens: int, rows: int, few_slots: Classifier, reference: Reference
) -> None:
    """Any lengths, any adapters, more of them than slots, in any number of calls at once."""

    async def ask() -> list[list[object]]:
        async with AsyncClassifier(few_slots, BatchLimits(max_batch_tokens=tokens, max_batch_requests=rows)) as engine:
            return await asyncio.gather(
                *(engine([text for text, _ in call], adapter=[name for _, name in call]) for call in calls)
            )

    for call, answers in zip(calls, asyncio.run(ask()), strict=True):
        for (text, name), answer in zip(call, answers, strict=True):
            ids = few_slots.encode(text, name, truncate=True).input_ids
            np.testing.assert_allclose(answer.logits, reference.logits(ids, name), atol=1e-4)
            assert (answer.adapter, answer.labels) == (name, LABELS[name])


def test_a_program_asks_as_it_asks_a_classifier(classifier: Classifier) -> None:
    async def ask() -> None:
        async with AsyncClassifier(classifier) as engine:
            (answer,) = await engine("the bill is late", adapter="intent")
            np.testing.assert_allclose(answer.logits, classifier("the bill is late", adapter="intent")[0].logits)
            with pytest.raises(InputError, match="more than 8 tokens"):
                await engine("the bill is late " * 3, adapter="intent", truncate=False)
        with pytest.raises(ShuttingDown):
            await engine("good", adapter="tone")

    asyncio.run(ask())


def test_windows_over_a_pair_are_refused(mixed: Classifier) -> None:
    with pytest.raises(InputError, match="windows are read of one text, not of a pair"):
        mixed([("good", "bad")], adapter="match", windows=True)


def test_a_megabyte_of_text_is_cut_or_read_in_windows(classifier: Classifier) -> None:
    text = "the bill is very late " * 45_000
    assert len(classifier.encode(text, "tone", truncate=True)) == 8
    (answer,) = classifier(text, adapter="tone", windows=True)
    assert answer.scores.sum() == pytest.approx(1, abs=1e-5)


def test_more_windows_than_a_request_may_have_are_refused(classifier: Classifier) -> None:
    async def ask() -> None:
        async with AsyncClassifier(classifier) as engine:
            with pytest.raises(InputError, match="the texts have 20 windows; at most 16 go into one request"):
                await classify(engine, ["good bad late " * 27], windows=True, max_windows=16)

    asyncio.run(ask())


def test_windows_of_the_texts_of_a_request_are_counted_together(classifier: Classifier) -> None:
    text = "good bad late " * 27

    async def ask() -> None:
        async with AsyncClassifier(classifier, BatchLimits(max_queued_requests=70)) as engine:
            with pytest.raises(InputError, match="the texts have 40 windows or more; at most 39 go into one"):
                await classify(engine, [text] * 3, windows=True, max_windows=39)
            with pytest.raises(InputError, match="the texts have 80 windows; at most 70 go into one request"):
                await classify(engine, [text] * 4, windows=True)
            assert len(await classify(engine, [text] * 3, windows=True, max_windows=60)) == 3

    asyncio.run(ask())


@pytest.mark.parametrize("windows", [False, True])
def test_what_no_request_may_ask_is_refused_before_a_text_is_tokenized(
    windows: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(bundle, provider="cpu", threads=1)
    monkeypatch.setattr(classifier, "tokenizer", None)
    text = "a " * 950_000

    async def ask() -> None:
        async with AsyncClassifier(classifier) as engine:
            for texts in ([text], [("good", text)], [text] * 3):
                with pytest.raises(InputError, match="characters: at most 262144 are tokenized, shorten it"):
                    await classify(engine, texts, windows=windows, max_windows=64, overlap=5 if windows else None)
            for count, max_windows, bound in ((65, 64, 64), (1025, None, 1024)):
                with pytest.raises(InputError, match=f"{count} texts at once: at most {bound} go into one request"):
                    await classify(engine, ["good"] * count, windows=windows, max_windows=max_windows)

    asyncio.run(ask())


def test_a_row_whose_adapter_cannot_be_read_fails_alone(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    engine = Classifier(folder, provider="cpu", threads=1, slots=1, host_adapters=1)
    engine("good", adapter="tone")
    (folder / "adapters" / "intent" / "adapter.safetensors").unlink()

    async def ask() -> list[object]:
        async with AsyncClassifier(engine) as live:
            return await asyncio.gather(
                *(live("good", adapter=name) for name in ("tone", "intent", "tone")), return_exceptions=True
            )

    first, second, third = asyncio.run(ask())
    assert "incomplete" in str(second)
    assert first[0].adapter == third[0].adapter == "tone"


def test_the_neighbours_of_a_row_that_the_runtime_refuses_are_classified(
    classifier: Classifier, reference: Reference
) -> None:
    tone = classifier.registry.find("tone")
    rows = [EncodedText([1, token, 2], [0] * 3, tone) for token in (4, 99, 5, 6)]

    async def ask() -> list[object]:
        async with AsyncClassifier(classifier) as engine:
            calls = (engine.batcher.submit([row]) for row in rows)
            return await asyncio.gather(*calls, return_exceptions=True)

    for row, result in zip(rows, asyncio.run(ask()), strict=True):
        if 99 in row.input_ids:
            assert isinstance(result, ClassificationFailed)
        else:
            np.testing.assert_allclose(result[0].logits, reference.logits(row.input_ids, "tone"), atol=1e-4)


class IdsOfLines(logging.Handler):
    """Keeps the ids that lines have when they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        request = request_of(record)
        self.ids.append("" if request is None else request.request_id)


def test_the_line_of_a_row_that_fails_has_its_request(classifier: Classifier) -> None:
    bad = EncodedText([1, 99, 2], [0] * 3, classifier.registry.find("tone"))

    async def ask(engine: AsyncClassifier, request_id: str) -> None:
        current_request.set(RequestContext(request_id))
        with pytest.raises(ClassificationFailed):
            await engine.batcher.submit([bad])

    async def ask_two() -> None:
        async with AsyncClassifier(classifier) as engine:
            for request_id in ("one", "two"):
                await asyncio.create_task(ask(engine, request_id))

    logging.getLogger("serve").addHandler(lines := IdsOfLines())
    try:
        asyncio.run(ask_two())
    finally:
        logging.getLogger("serve").removeHandler(lines)
    assert lines.ids == ["one", "two"]


def test_adapters_are_those_of_the_moment_in_which_a_request_arrives(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that replaces another while the texts are tokenized answers none of them."""
    spare = Classifier(write_bundle(tmp_path / "spare", reference, ["tone"]), provider="cpu", threads=1)
    old = spare.cards["tone"].sha256
    folder = tmp_path / "new"
    write_adapter(folder, reference, "match", pairs=False, name="tone", labels=LABELS["tone"])
    encode = spare.tokenizer.encode
    loaded: list[AdapterCard] = []

    def replaced(text: str, adapter: Adapter, *, truncate: bool) -> EncodedText:
        if not loaded:
            loaded.append(spare.load(folder, replace=True))
        return encode(text, adapter, truncate=truncate)

    monkeypatch.setattr(spare.tokenizer, "encode", replaced)

    async def ask() -> list[str]:
        async with AsyncClassifier(spare) as engine:
            request = ClassificationRequest(texts=["good", "bad", "late"], adapters=["tone"] * 3)
            first = await engine.classify(request)
            return [one.sha256 for one in (*first, *await engine.classify(request))]

    answered = asyncio.run(ask())
    assert answered == [old] * 3 + [loaded[0].sha256] * 3

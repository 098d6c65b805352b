"""Texts through the members of a mixture, in both engines."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from serve import AsyncClassifier, BatchLimits, Classifier, Prediction
from serve.errors import BundleError, InputError
from serve.requests import ClassificationRequest
from tests.fixtures.members import MODULES, bundle_with_members, member_scores
from tests.serve.conftest import LABELS, Reference, write_bundle

TEXTS = ["good", "the bill is very late", "bad"]
LONG = "good bad late bill the is very good bad the bill is late"


@pytest.fixture
def classifier(tmp_path: Path, reference: Reference) -> Classifier:
    bundle = bundle_with_members(tmp_path, reference, ["tone", "intent", "grade"], of=["tone", "grade"])
    return Classifier(bundle, provider="cpu", threads=1, batch_tokens=64)


@pytest.fixture
def ensemble(tmp_path: Path, reference: Reference) -> Classifier:
    bundle = bundle_with_members(tmp_path / "ensemble", reference, ["tone", "grade"], of=["tone", "grade"])
    return Classifier(bundle, provider="cpu", threads=1, ensemble=True)


def ids_of(classifier: Classifier, text: str, name: str) -> list[int]:
    return classifier.encode(text, name, truncate=True).input_ids


def ask(engine: AsyncClassifier, **fields: object) -> list[Prediction]:
    async def classify() -> list[Prediction]:
        async with engine:
            return await engine.classify(ClassificationRequest(truncate=True, members=True, **fields))

    return asyncio.run(classify())


@pytest.mark.parametrize("name", ["tone", "grade"])
def test_each_text_goes_through_the_adapter_and_its_members(
    name: str, classifier: Classifier, reference: Reference
) -> None:
    for text, found in zip(TEXTS, classifier(TEXTS, adapter=name, members=True), strict=True):
        ids = ids_of(classifier, text, name)
        np.testing.assert_allclose(found.logits, reference.logits(ids, name), atol=1e-4)
        scores = member_scores(reference, name, ids)
        assert scores.shape == (MODULES, len(LABELS[name]))
        np.testing.assert_allclose(found.members, scores, atol=1e-4)
        np.testing.assert_allclose(found.spread, scores.std(0), atol=1e-4)
        np.testing.assert_allclose(found.ensemble, scores.mean(0), atol=1e-4)
        assert (found.adapter, found.sha256) == (name, classifier.cards[name].sha256)


def test_the_queue_answers_as_the_classifier(classifier: Classifier) -> None:
    names = ["tone", "grade", "tone"]
    found = ask(AsyncClassifier(classifier), texts=TEXTS, adapters=names)
    for one, other in zip(found, classifier(TEXTS, adapter=names, members=True), strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
        np.testing.assert_allclose(one.members, other.members, atol=1e-5)


def test_a_program_asks_the_queue_for_members(classifier: Classifier) -> None:
    async def classify() -> None:
        async with AsyncClassifier(classifier) as engine:
            (found,) = await engine("good", adapter="tone", members=True)
            assert found.spread.shape == (2,)
            (plain,) = await engine("good", adapter="tone")
            assert plain.members is None

    asyncio.run(classify())


def test_a_text_and_its_members_share_a_batch(classifier: Classifier) -> None:
    batches: list[list[str]] = []
    engine = AsyncClassifier(classifier)
    engine.subscribe(lambda event: batches.append([*event.adapters]))
    ask(engine, texts=["the bill"], adapters=["tone"])
    assert batches == [["tone", "tone.0", "tone.1", "tone.2", "tone.3"]]


def test_the_windows_of_each_member_are_averaged(classifier: Classifier, reference: Reference) -> None:
    (found,) = classifier(LONG, adapter="tone", windows=True, overlap=2, members=True)
    windows = list(classifier.windows(LONG, "tone", overlap=2))
    assert len(windows) == 3
    expected = np.mean([member_scores(reference, "tone", window.input_ids) for window in windows], axis=0)
    np.testing.assert_allclose(found.members, expected, atol=1e-5)
    (plain,) = classifier(LONG, adapter="tone", windows=True, overlap=2)
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-5)


def test_without_being_asked_for_no_member_runs(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    run = classifier.runner.run
    monkeypatch.setattr(
        classifier.runner, "run", lambda rows: ran.extend(row.adapter.card.name for row in rows) or run(rows)
    )
    (found,) = classifier("good", adapter="tone")
    assert (found.members, ran) == (None, ["tone"])


def test_an_adapter_without_its_members_says_how_to_export_them(classifier: Classifier) -> None:
    message = "adapter intent has none of its 4 modules here: export its mixture with --keep-modules"
    with pytest.raises(InputError, match=message):
        classifier("good", adapter="intent", members=True)
    with pytest.raises(InputError, match=message):
        ask(AsyncClassifier(classifier), texts=TEXTS, adapters=["tone", "intent", "tone"])


def test_rows_of_members_count_against_the_limits_of_a_request(classifier: Classifier) -> None:
    limits = BatchLimits(max_queued_requests=15)
    assert len(ask(AsyncClassifier(classifier, limits), texts=TEXTS, adapters=["tone"] * 3)) == 3
    message = "4 texts at once, each through its adapter's members, are 20 rows: at most 15 go into one request"
    with pytest.raises(InputError, match=message):
        ask(AsyncClassifier(classifier, limits), texts=["good"] * 4, adapters=["tone"] * 4)
    with pytest.raises(InputError, match="are 15 rows: at most 14"):
        ask(AsyncClassifier(classifier), texts=TEXTS, adapters=["tone"] * 3, max_windows=14)
    with pytest.raises(InputError, match="have 15 windows, each through its adapter's members; at most 14 go into one"):
        ask(AsyncClassifier(classifier), texts=[LONG], adapters=["tone"], windows=True, overlap=2, max_windows=14)


def test_an_ensemble_predicts_the_mean_of_its_members(ensemble: Classifier, reference: Reference) -> None:
    for name in ("tone", "grade"):
        (found,) = ensemble("the bill is late", adapter=name)
        scores = member_scores(reference, name, ids_of(ensemble, "the bill is late", name))
        np.testing.assert_allclose(found.scores, scores.mean(0), atol=1e-5)
        np.testing.assert_allclose(found.spread, scores.std(0), atol=1e-5)
        assert (found.adapter, found.sha256) == (name, ensemble.cards[name].sha256)
        assert found.label == LABELS[name][int(scores.mean(0).argmax())]


def test_an_ensemble_runs_its_members_alone_and_a_member_by_name_is_itself(
    ensemble: Classifier, reference: Reference
) -> None:
    engine, batches = AsyncClassifier(ensemble), []
    engine.subscribe(lambda event: batches.append([*event.adapters]))
    ask(engine, texts=["good"], adapters=["tone"])
    assert batches == [["tone.0", "tone.1", "tone.2", "tone.3"]]
    (found,) = ensemble("good", adapter="tone.2")
    np.testing.assert_allclose(
        found.scores, member_scores(reference, "tone", ids_of(ensemble, "good", "tone"))[2], atol=1e-5
    )


def test_an_ensemble_of_an_adapter_without_members_does_not_open(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    with pytest.raises(BundleError, match=r"cannot be served as an ensemble: adapter tone has none .* --keep-modules"):
        Classifier(folder, provider="cpu", ensemble=True)


def test_an_overlap_without_windows_is_refused(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="overlap is 2 without windows"):
        classifier(LONG, adapter="tone", overlap=2)

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.adapter_place import Residency
from serve.adapters.registry import MAX_LISTED
from serve.bundle.adapter import Adapter
from serve.classification.classifier import Classifier
from serve.errors import BundleError, InputError, UnknownAdapter
from tests.fixtures.members import bundle_with_members, member_scores, write_members
from tests.serve.conftest import CANARY, LABELS, Reference, card, write_adapter, write_bundle


@pytest.fixture
def spare(tmp_path: Path, reference: Reference) -> Classifier:
    return Classifier(write_bundle(tmp_path / "spare", reference, ["tone"], spare_slots=1), provider="cpu", threads=1)


def expected(classifier: Classifier, reference: Reference, text: str, name: str, like: str | None = None) -> object:
    return reference.logits(classifier.encode(text, name, truncate=True).input_ids, like or name)


def test_an_adapter_that_is_loaded_later_answers_beside_the_others(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    before = spare("good", adapter="tone")[0].logits
    write_adapter(tmp_path / "intent", reference, "intent")
    assert spare.load(tmp_path / "intent").name == "intent"
    tone, intent = spare(["good", "the bill"], adapter=["tone", "intent"])
    np.testing.assert_allclose(tone.logits, before, atol=1e-6)
    np.testing.assert_allclose(intent.logits, expected(spare, reference, "the bill", "intent"), atol=1e-4)


def test_an_adapter_that_fails_its_canary_leaves_no_trace(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    logits = [(reference.logits(ids, "intent") + 0.01).tolist() for ids in CANARY]
    write_adapter(tmp_path / "wrong", reference, "intent", canary_logits=logits)
    with pytest.raises(BundleError, match="intent does not give the logits"):
        spare.load(tmp_path / "wrong")
    with pytest.raises(UnknownAdapter):
        spare("good", adapter="intent")
    write_adapter(tmp_path / "right", reference, "intent")
    spare.load(tmp_path / "right")
    assert spare("good", adapter="intent")[0].adapter == "intent"


def test_an_adapter_that_does_not_belong_here_is_refused(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "foreign", reference, "intent", base_sha256="1" * 64)
    with pytest.raises(BundleError, match="was trained on a base with sha256 111111111111"):
        spare.load(tmp_path / "foreign")
    write_adapter(tmp_path / "again", reference, "tone")
    with pytest.raises(BundleError, match="two adapters called tone: rename one, or replace the one there is"):
        spare.load(tmp_path / "again")
    with pytest.raises(BundleError, match="nowhere"):
        spare.load(tmp_path / "nowhere")


def test_a_merged_bundle_takes_no_adapter(tmp_path: Path, reference: Reference) -> None:
    engine = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone"]), provider="cpu", threads=1)
    engine.registry.bank = None
    write_adapter(tmp_path / "intent", reference, "intent")
    with pytest.raises(BundleError, match="this bundle is merged"):
        engine.load(tmp_path / "intent")


def other_tone(folder: Path, reference: Reference, **changes: object) -> Path:
    """An adapter that is called tone, with the weights of `match`, which has two labels as well."""
    folder.mkdir()
    write_adapter(folder / "match", reference, "match", pairs=False, name="tone", labels=LABELS["tone"], **changes)
    return folder / "match"


def test_a_name_is_replaced_and_rows_that_came_before_are_answered_by_the_adapter_before(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    early = spare.encode("the bill is bad", "tone", truncate=True)
    old = spare.cards["tone"].sha256
    new = spare.load(other_tone(tmp_path / "new", reference), replace=True).sha256
    late = spare.encode("the bill is bad", "tone", truncate=True)
    answers = spare.run([early, late, early])
    assert [answer.sha256 for answer in answers] == [old, new, old]
    for answer, like in zip(answers, ("tone", "match", "tone"), strict=True):
        np.testing.assert_allclose(answer.logits, reference.logits(early.input_ids, like), atol=1e-4)


def test_a_replacement_with_other_labels_is_refused_and_the_old_one_stays(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    folder = other_tone(tmp_path / "new", reference)
    shutil.rmtree(folder)
    write_adapter(folder, reference, "match", pairs=False, name="tone", labels=["bad", "good"])
    with pytest.raises(BundleError, match="tone has other labels or inputs than the one it would replace"):
        spare.load(folder, replace=True)
    assert spare("good", adapter="tone")[0].labels == LABELS["tone"]


def test_an_adapter_in_use_is_unloaded_and_its_rows_are_answered(spare: Classifier, reference: Reference) -> None:
    row = spare.encode("good", "tone", truncate=True)
    spare.unload("tone")
    with pytest.raises(UnknownAdapter, match="no adapter 'tone' here; there are none"):
        spare("good", adapter="tone")
    (answer,) = spare.run([row])
    np.testing.assert_allclose(answer.logits, reference.logits(row.input_ids, "tone"), atol=1e-4)


def renamed(folder: Path, reference: Reference, count: int) -> list[Path]:
    """Adapters of all sorts with names of their own, each with weights that no other has."""
    made = []
    for index in range(count):
        like = list(LABELS)[index % len(LABELS)]
        weights = {name: tensor * (1 + index / 1000) for name, tensor in reference.adapters[like].items()}
        one = Reference(reference.embeddings, {like: weights})
        write_adapter(folder / f"a{index}", one, like, name=f"a{index}", pairs=False)
        made.append(folder / f"a{index}")
    return made


def test_a_thousand_adapters_in_few_slots_each_answer_as_alone(tmp_path: Path, reference: Reference) -> None:
    """Loaded from many threads at once, with the weights of a few in memory."""
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    engine = Classifier(folder, provider="cpu", threads=1, slots=16, host_adapters=32)
    folders = renamed(tmp_path / "many", reference, 1000)
    in_threads(8, lambda index: [engine.load(one) for one in folders[index::8]])
    assert len(engine.cards) == 1001
    assert engine.bank is not None
    assert len(engine.bank.slots) == 16
    assert sum(adapter.in_memory for adapter in engine.registry.adapters.values()) <= 32
    names = [f"a{index}" for index in range(0, 1000, 7)]
    answers = engine(["the bill is late"] * len(names), adapter=names)
    ids = engine.encode("the bill is late", "a0", truncate=True).input_ids
    for name, answer in zip(names, answers, strict=True):
        index = int(name[1:])
        like = list(LABELS)[index % len(LABELS)]
        tensors = {key: tensor * (1 + index / 1000) for key, tensor in reference.adapters[like].items()}
        found = Reference(reference.embeddings, {like: tensors}).logits(ids, like)
        np.testing.assert_allclose(answer.logits, found, atol=1e-4)
        assert answer.adapter == name


def test_answers_are_right_while_adapters_come_and_go(tmp_path: Path, reference: Reference) -> None:
    engine = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone"]), provider="cpu", threads=1, slots=2)
    folders = renamed(tmp_path / "many", reference, 12)
    right = reference.logits(engine.encode("the bill is late", "tone", truncate=True).input_ids, "tone")
    failed: list[str] = []

    def work(index: int) -> None:
        for one in folders[index::4] * 5:
            engine.load(one)
            (answer,) = engine("good", adapter=one.name)
            if answer.adapter != one.name or answer.sha256 != engine.cards[one.name].sha256:
                failed.append(one.name)
            (tone,) = engine("the bill is late", adapter="tone")
            if not np.allclose(tone.logits, right, atol=1e-4):
                failed.append("tone")
            engine.unload(one.name)

    in_threads(4, work)
    assert not failed
    assert list(engine.cards) == ["tone"]


def test_an_error_lists_no_thousand_names(tmp_path: Path, reference: Reference) -> None:
    engine = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone"]), provider="cpu", threads=1)
    engine.registry.adapters = dict.fromkeys((f"a{index}" for index in range(100)), engine.registry.find("tone"))
    with pytest.raises(UnknownAdapter, match=f"a{MAX_LISTED - 1} and {100 - MAX_LISTED} more$"):
        engine("good", adapter="mood")


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work` on its number in so many threads, and raise the first error of any."""
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_members_come_in_the_order_of_their_modules_and_are_found_however_they_were_loaded(
    tmp_path: Path, reference: Reference
) -> None:
    engine = Classifier(write_bundle(tmp_path / "bundle", reference, ["tone"]), provider="cpu", threads=1)
    tone = engine.registry.find("tone")
    for folder in reversed(write_members(tmp_path / "members", reference, "tone")):
        with pytest.raises(InputError, match="of its 4 modules here: export its mixture with --keep-modules"):
            engine.registry.members(tone)
        engine.load(folder)
    names = ["tone.0", "tone.1", "tone.2", "tone.3"]
    assert [one.card.name for one in engine.registry.members(tone)] == names
    scores = member_scores(reference, "tone", engine.encode("good", "tone", truncate=True).input_ids)
    np.testing.assert_allclose(engine("good", adapter="tone", members=True)[0].members, scores, atol=1e-4)
    engine.unload("tone")
    assert list(engine.cards) == names[::-1], "members stay"
    engine.unload("tone.3")
    with pytest.raises(InputError, match="adapter tone has 3 of its 4 modules here"):
        engine.registry.members(tone)


def test_the_eleventh_module_comes_after_the_tenth(classifier: Classifier) -> None:
    registry = classifier.registry
    many = [card(f"tone.{index}", member_of="tone") for index in range(12)]
    registry.adapters = {one.name: Adapter(one, {}) for one in sorted(many, key=lambda one: one.name)}
    mean = Adapter(card("tone", num_modules=12), {})
    assert [one.card.name for one in registry.members(mean)] == [f"tone.{index}" for index in range(12)]


def test_what_has_no_members_of_its_own_says_why(tmp_path: Path, reference: Reference, classifier: Classifier) -> None:
    registry = classifier.registry
    with pytest.raises(InputError, match=r"adapter tone\.1 is one module itself: ask for the members of tone"):
        registry.members(Adapter(card("tone.1", member_of="tone"), {}))
    with pytest.raises(InputError, match="adapter tone is no mixture, it has one module: leave out members"):
        registry.members(Adapter(card("tone"), {}))
    write_members(tmp_path, reference, "tone", max_length=7)
    for index in range(4):
        classifier.load(tmp_path / f"tone.{index}")
    with pytest.raises(InputError, match="the modules of adapter tone have other labels or inputs than it has"):
        registry.members(registry.find("tone"))


def test_members_beside_their_mean_are_not_listed_and_leave_it_the_only_adapter(
    tmp_path: Path, reference: Reference
) -> None:
    bundle = bundle_with_members(tmp_path, reference, ["tone"], of=["tone"])
    engine = Classifier(bundle, provider="cpu", threads=1)
    assert engine("good")[0].adapter == "tone"
    assert engine("good", adapter="tone.1")[0].adapter == "tone.1"
    with pytest.raises(UnknownAdapter, match=r"there is no adapter 'mood' here; there are tone$"):
        engine("good", adapter="mood")
    engine.unload("tone")
    with pytest.raises(InputError, match=r"name an adapter: tone\.0, tone\.1, tone\.2, tone\.3"):
        engine("good")


def test_an_adapter_s_place_is_that_of_its_weights(tmp_path: Path, reference: Reference) -> None:
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent", "grade"])
    classifier = Classifier(bundle, provider="cpu", threads=1, slots=2, host_adapters=1, pins=["grade"])
    classifier("good", adapter="tone")
    places = classifier.registry.places()
    assert {name: place.residency for name, place in places.items()} == {
        "tone": Residency.SLOT,
        "intent": Residency.DISK,
        "grade": Residency.SLOT,
    }
    assert [places[name].pinned for name in ("tone", "intent", "grade")] == [False, False, True]
    assert places["grade"].in_host_memory and not places["intent"].in_host_memory
    assert (places["intent"].slot, places["intent"].rank) == (None, 4)
    assert places["tone"].size_bytes == sum(tensor.nbytes for tensor in reference.adapters["tone"].values())
    assert places["tone"].loaded_at == pytest.approx(time.time(), abs=60)


def test_a_pinned_adapter_is_pinned_when_it_comes_and_when_it_is_replaced(tmp_path: Path, reference: Reference) -> None:
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent", "grade"])
    classifier = Classifier(bundle, provider="cpu", threads=1, slots=2, pins=["mood"])
    for number, like in enumerate(("tone", "match")):
        write_adapter(tmp_path / str(number), reference, like, name="mood", pairs=False, labels=LABELS["tone"])
        classifier.load(tmp_path / str(number), replace=number > 0)
        for name in ("tone", "intent", "grade"):
            classifier("good", adapter=name)
        assert classifier.registry.places()["mood"].slot is not None
        assert classifier.bank is not None and len(classifier.bank.pinned) == 1
    classifier.unload("mood")
    assert not classifier.bank.pinned


def test_a_load_that_would_pin_all_slots_is_refused_and_changes_nothing(tmp_path: Path, reference: Reference) -> None:
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    classifier = Classifier(bundle, provider="cpu", threads=1, slots=2, pins=["tone", "grade"])
    write_adapter(tmp_path / "grade", reference, "grade")
    with pytest.raises(BundleError, match="pinned in 2 of 2 slots"):
        classifier.load(tmp_path / "grade")
    assert list(classifier.cards) == ["tone", "intent"]
    assert classifier.registry.places()["tone"].pinned

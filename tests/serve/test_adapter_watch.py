"""Looks at a folder, one at a time, over a classifier's and a generator's bank."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.adapter_loading import AdapterLoading, Source
from serve.adapter_watch import AdapterWatch
from serve.bundle.adapter import CARD, WEIGHTS
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import InputError
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle
from tests.serve.conftest import LABELS, Reference, write_adapter, write_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


@pytest.fixture
def engine(tmp_path: Path, reference: Reference) -> AsyncClassifier:
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone"])
    return AsyncClassifier(Classifier(bundle, provider="cpu", threads=1, slots=4))


@pytest.fixture
def watch(engine: AsyncClassifier, root: Path) -> AdapterWatch:
    return AdapterWatch(AdapterLoading(engine=engine, root=root), seconds=0.01)


def names(watch: AdapterWatch) -> list[str]:
    return [model.name for model in watch.loading.engine.models()]


def sha256(watch: AdapterWatch, name: str) -> str:
    model = watch.loading.engine.model(name)
    assert model is not None
    return model.sha256


def look_twice(watch: AdapterWatch) -> None:
    watch.look()
    watch.look()


def rewrite(folder: Path, reference: Reference, *, like: str, name: str) -> None:
    """Write other weights with the labels of `tone` under a name."""
    shutil.rmtree(folder, ignore_errors=True)
    write_adapter(folder, reference, like, name=name, pairs=False, labels=LABELS["tone"])


def test_a_new_folder_is_loaded_when_it_is_settled(watch: AdapterWatch, root: Path, reference: Reference) -> None:
    write_adapter(root / "intent", reference, "intent")
    watch.look()
    assert names(watch) == ["tone"]
    os.utime(root / "intent" / WEIGHTS, ns=(1, 1))  # it is still being copied
    watch.look()
    assert names(watch) == ["tone"]
    watch.look()
    assert names(watch) == ["tone", "intent"]


def test_a_change_replaces_and_a_folder_that_is_gone_unloads(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    look_twice(watch)
    before = sha256(watch, "mood")
    rewrite(root / "mood", reference, like="match", name="mood")
    with caplog.at_level(logging.INFO):
        look_twice(watch)
    assert sha256(watch, "mood") != before
    assert "replaced adapter mood" in caplog.text
    shutil.rmtree(root / "mood")
    watch.look()
    assert names(watch) == ["tone", "mood"], "it may be on its way to be replaced"
    watch.look()
    assert names(watch) == ["tone"]
    assert watch.loading.records == {}


def test_a_folder_that_is_swapped_between_two_looks_is_never_unloaded(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    look_twice(watch)
    shutil.rmtree(root / "mood")
    watch.look()
    rewrite(root / "mood", reference, like="match", name="mood")
    watch.look()
    assert names(watch) == ["tone", "mood"]
    before = sha256(watch, "mood")
    watch.look()
    assert sha256(watch, "mood") != before


def damaged(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def without_card(folder: Path) -> None:
    (folder / CARD).unlink()


def cut_card(folder: Path) -> None:
    (folder / CARD).write_text("{")


@pytest.mark.parametrize("harm", [damaged, without_weights, without_card, cut_card])
def test_a_failed_load_leaves_the_old_one_and_is_told_once(
    harm: Callable[[Path], None],
    watch: AdapterWatch,
    root: Path,
    reference: Reference,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    look_twice(watch)
    before = sha256(watch, "mood")
    harm(root / "mood")
    for _ in range(5):
        watch.look()
    assert sha256(watch, "mood") == before
    assert watch.loading.records["mood"].error
    assert str(root) not in watch.loading.records["mood"].error
    assert caplog.text.count("adapter folder mood was not loaded, and the mood that was loaded before stays: ") == 1
    rewrite(root / "mood", reference, like="match", name="mood")
    look_twice(watch)
    assert sha256(watch, "mood") != before
    assert watch.loading.records["mood"].error == ""


def test_a_new_folder_that_is_refused_is_told_once_and_tried_when_it_changes(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(root / "intent", reference, "intent", base_sha256="1" * 64)
    for _ in range(4):
        watch.look()
    assert (names(watch), caplog.text.count("was not loaded")) == (["tone"], 1)
    shutil.rmtree(root / "intent")
    write_adapter(root / "intent", reference, "intent")
    look_twice(watch)
    assert names(watch) == ["tone", "intent"]


def test_links_out_of_the_folder_are_told_once(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(root.parent / "secret", reference, "intent")
    (root / "intent").symlink_to(root.parent / "secret")
    for _ in range(4):
        watch.look()
    assert (names(watch), caplog.text.count("is not below the folder")) == (["tone"], 1)


def test_the_bundle_s_own_adapters_and_other_folders_are_not_taken_over(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    tone = sha256(watch, "tone")
    write_adapter(root / "same", reference, "tone")  # the weights that are served
    for _ in range(4):
        watch.look()
    reason = "the adapter tone with these very weights is served from the bundle or --adapter: remove one of the two"
    assert watch.loading.records["same"].error == reason
    assert caplog.text.count(f"adapter folder same was not loaded: {reason}") == 1
    rewrite(root / "other", reference, like="match", name="tone")
    look_twice(watch)
    assert sha256(watch, "tone") == tone
    assert "there are two adapters called tone" in watch.loading.records["other"].error


def test_an_adapter_that_gets_another_name_is_served_by_that_alone(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    look_twice(watch)
    rewrite(root / "mood", reference, like="match", name="temper")
    look_twice(watch)
    assert names(watch) == ["tone", "temper"]


def test_what_was_unloaded_stays_so_until_its_folder_changes(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    write_adapter(root / "intent", reference, "intent")
    look_twice(watch)
    watch.loading.take_down("intent")
    look_twice(watch)
    assert names(watch) == ["tone"]
    os.utime(root / "intent" / CARD)
    look_twice(watch)
    assert names(watch) == ["tone", "intent"]


def test_a_client_s_adapter_is_kept_up_to_date_as_well(watch: AdapterWatch, root: Path, reference: Reference) -> None:
    rewrite(root / "team" / "mood", reference, like="tone", name="mood")
    watch.loading.bring_up("team/mood", name="mood", source=Source.CLIENT)
    before = sha256(watch, "mood")
    look_twice(watch)
    rewrite(root / "team" / "mood", reference, like="match", name="mood")
    look_twice(watch)
    assert sha256(watch, "mood") != before
    assert watch.loading.records["team/mood"].source == Source.CLIENT


def test_a_client_s_mistake_does_not_keep_the_watch_from_a_folder(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    write_adapter(root / "intent", reference, "intent")
    with pytest.raises(InputError, match="is called intent, not mood"):
        watch.loading.bring_up("intent", name="mood", source=Source.CLIENT)
    look_twice(watch)
    assert names(watch) == ["tone", "intent"]
    assert watch.loading.records["intent"].error == ""


def test_a_folder_that_cannot_be_listed_changes_nothing_and_is_told_once(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(root / "intent", reference, "intent")
    look_twice(watch)
    root.rename(root.with_name("away"))
    for _ in range(4):
        watch.look()
    assert names(watch) == ["tone", "intent"]
    assert caplog.text.count("cannot be watched, and what is served stays") == 1
    root.with_name("away").rename(root)
    look_twice(watch)
    assert names(watch) == ["tone", "intent"]


def test_on_demand_nothing_new_is_loaded_and_what_is_loaded_is_kept_up_to_date(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    watch.on_demand = True
    for name in ("mood", "temper"):
        rewrite(root / name, reference, like="tone", name=name)
    look_twice(watch)
    assert names(watch) == ["tone"]
    assert watch.loading.look_up("mood")
    before = sha256(watch, "mood")
    rewrite(root / "mood", reference, like="match", name="mood")
    look_twice(watch)
    assert (names(watch), sha256(watch, "mood") != before) == (["tone", "mood"], True)
    assert watch.loading.records["mood"].source == Source.LOOKUP, "so that the lookup may unload it"


def test_what_is_there_at_the_start_is_loaded_then_and_the_rest_later(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(root / "intent", reference, "intent")
    write_adapter(root / "grade", reference, "grade")
    weights = (root / "grade" / WEIGHTS).read_bytes()
    (root / "grade" / WEIGHTS).write_bytes(weights[:9])  # half copied
    watch.seconds = 3600
    watch.start()
    try:
        assert names(watch) == ["tone", "intent"]
        assert "was not loaded" not in caplog.text
        (root / "grade" / WEIGHTS).write_bytes(weights)
        look_twice(watch)
        assert names(watch) == ["tone", "intent", "grade"]
    finally:
        watch.stop()


def test_the_thread_looks_by_itself_and_ends(watch: AdapterWatch, root: Path, reference: Reference) -> None:
    watch.start()
    write_adapter(root / "intent", reference, "intent")
    deadline = time.monotonic() + 20
    while names(watch) != ["tone", "intent"] and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.stop()
    assert names(watch) == ["tone", "intent"]
    assert not watch.thread.is_alive()


def test_a_generator_s_adapters_are_watched_as_well(tmp_path: Path, root: Path) -> None:
    decoder = random_decoder()
    bundle = write_decoder_bundle(tmp_path / "bundle", decoder)
    generator = Generator(bundle, provider="cpu", threads=1, slots=4)
    shutil.move(bundle / "adapters" / "north", root / "north")
    generator.unload("north")
    watch = AdapterWatch(AdapterLoading(engine=AsyncTextGenerator(generator), root=root), seconds=1)
    look_twice(watch)
    assert generator("good", adapter="north")[0].tokens == decoder.greedy([1, 4, 2], "north", 32)[:32]
    shutil.rmtree(root / "north")
    look_twice(watch)
    assert "north" not in names(watch)
    assert np.isfinite(generator.greedy_logits([generator.prompt("good", "south")], max_new_tokens=1)[1][0]).all()


def test_a_folder_that_is_renamed_keeps_its_adapter(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root / "b", reference, like="tone", name="mood")
    look_twice(watch)
    for before, after in (("b", "c"), ("c", "a")):  # which is listed before it and after it
        (root / before).rename(root / after)
        unloaded = []
        for _ in range(3):
            watch.look()
            unloaded.append("mood" not in names(watch))
        assert unloaded == [False] * 3
        assert {path: one.name for path, one in watch.loading.records.items()} == {after: "mood"}
    assert "was not loaded" not in caplog.text
    shutil.rmtree(root / "a")
    look_twice(watch)
    assert names(watch) == ["tone"]


def test_of_two_folders_with_an_adapter_the_other_takes_over(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    """Blue and green: the second one is refused while the first is there."""
    rewrite(root / "blue", reference, like="tone", name="mood")
    look_twice(watch)
    blue = sha256(watch, "mood")
    rewrite(root / "green", reference, like="match", name="mood")
    for _ in range(3):
        watch.look()
    assert "there are two adapters called mood" in watch.loading.records["green"].error
    assert sha256(watch, "mood") == blue
    shutil.rmtree(root / "blue")
    watch.look()
    assert sha256(watch, "mood") == blue
    with caplog.at_level(logging.INFO):
        watch.look()
    assert sha256(watch, "mood") != blue
    assert "adapter mood is served from green, since blue is gone" in caplog.text
    assert "unloaded adapter mood" not in caplog.text
    assert (watch.loading.records["green"].name, watch.loading.records["green"].error) == ("mood", "")


def test_one_with_other_labels_takes_over_when_the_name_is_free(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "blue", reference, like="tone", name="mood")
    look_twice(watch)
    write_adapter(root / "green", reference, "intent", name="mood")
    look_twice(watch)
    assert watch.loading.records["green"].error
    shutil.rmtree(root / "blue")
    look_twice(watch)
    found = watch.loading.engine.model("mood")
    assert found is not None and found.labels == LABELS["intent"]
    assert watch.loading.records["green"].error == ""


def test_a_name_that_a_card_gives_up_is_free_for_another_folder(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "blue", reference, like="tone", name="mood")
    look_twice(watch)
    rewrite(root / "green", reference, like="match", name="mood")
    look_twice(watch)
    rewrite(root / "blue", reference, like="tone", name="temper")
    look_twice(watch)
    watch.look()
    assert names(watch) == ["tone", "temper", "mood"]
    assert {path: one.name for path, one in watch.loading.records.items()} == {"blue": "temper", "green": "mood"}


def test_what_a_client_unloads_is_not_loaded_from_another_folder(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "blue", reference, like="tone", name="mood")
    look_twice(watch)
    rewrite(root / "green", reference, like="match", name="mood")
    look_twice(watch)
    watch.loading.take_down("mood")
    look_twice(watch)
    assert names(watch) == ["tone"]
    shutil.rmtree(root / "blue")
    look_twice(watch)
    watch.look()
    assert names(watch) == ["tone", "mood"], "the folder that was unloaded is gone"


def test_a_twin_is_refused_with_its_reason_and_serves_when_it_is_alone(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root / "one", reference, like="tone", name="mood")
    look_twice(watch)
    shutil.copytree(root / "one", root / "two")
    for _ in range(4):
        watch.look()
    reason = "the adapter mood with these very weights is served from the folder one: remove one of the two"
    assert watch.loading.records["two"].error == reason
    assert caplog.text.count(reason) == 1
    shutil.rmtree(root / "one")
    look_twice(watch)
    assert (watch.loading.records["two"].name, watch.loading.records["two"].error) == ("mood", "")


def test_a_copy_whose_weights_are_damaged_is_refused_for_that(
    watch: AdapterWatch, root: Path, reference: Reference
) -> None:
    rewrite(root / "one", reference, like="tone", name="mood")
    look_twice(watch)
    shutil.copytree(root / "one", root / "two")
    weights = root / "two" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    look_twice(watch)
    reason = "two/adapter.safetensors is damaged: its sha256 does not match; export or copy it again"
    assert watch.loading.records["two"].error == reason
    assert names(watch) == ["tone", "mood"]


def test_a_folder_of_the_command_line_is_no_twin_of_itself(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    watch.loading.engine.load(root / "mood")
    started = {root / "mood": "mood"}
    watch.loading.started = started
    look_twice(watch)
    assert (watch.loading.records["mood"].error, watch.loading.records["mood"].name) == ("", "")
    assert "was not loaded" not in caplog.text
    watch.loading.engine.unload("mood")
    started.clear()  # a reload, whose --adapter names it no more
    look_twice(watch)
    assert watch.loading.records["mood"].name == "mood"


def test_files_that_change_without_their_weights_are_no_replacement(
    watch: AdapterWatch, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(root / "mood", reference, like="tone", name="mood")
    look_twice(watch)
    with caplog.at_level(logging.INFO):
        os.utime(root / "mood" / CARD)
        look_twice(watch)
    assert "replaced adapter" not in caplog.text

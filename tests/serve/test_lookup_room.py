"""Adapters of lookups over an engine and siblings that are told what to answer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from serve.adapter_loading import AdapterLoading, Source
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.lookup_room import BoundedLookup
from tests.serve.conftest import Reference, write_adapter, write_bundle

NAMES = ("a", "b", "c", "d")


class Others:
    """Siblings that used adapters at some times, and use some at the moment."""

    def __init__(self) -> None:
        self.uses: list[dict[str, float]] = []
        self.using: set[str] = set()
        self.released: list[str] = []

    def last_uses(self) -> Sequence[Mapping[str, float]]:
        return self.uses

    def release(self, name: str) -> bool:
        self.released.append(name)
        return name not in self.using


@pytest.fixture
def loading(tmp_path: Path, reference: Reference) -> AdapterLoading:
    for name in NAMES:
        write_adapter(tmp_path / "adapters" / name, reference, "tone", name=name)
    bundle = write_bundle(tmp_path / "bundle", reference, ["intent"])
    engine = AsyncClassifier(Classifier(bundle, provider="cpu", threads=1, slots=3))
    return AdapterLoading(engine=engine, root=tmp_path / "adapters")


def names(loading: AdapterLoading) -> list[str]:
    return [model.name for model in loading.engine.models() if model.name in NAMES]


def test_the_one_that_no_process_used_for_longest_goes(loading: AdapterLoading) -> None:
    others = Others()
    room = BoundedLookup(loading, most=2, siblings=others)
    assert all(room.load(name) for name in NAMES[:3])
    assert not room.load("nowhere")
    room.uses.last |= {"a": 3.0, "b": 1.0, "c": 2.0}
    others.uses = [{"a": 1.0}, {"b": 9.0}]
    assert room.make()
    assert names(loading) == ["a", "b"]
    assert room.uses.is_leaving("c"), "a request that names it now loads it again"
    assert room.load("c") and not room.uses.is_leaving("c")


def test_what_another_process_uses_stays_and_the_next_one_goes(loading: AdapterLoading) -> None:
    others = Others()
    room = BoundedLookup(loading, most=1, siblings=others)
    assert all(room.load(name) for name in NAMES[:3])
    room.uses.last |= {"a": 1.0, "b": 2.0, "c": 3.0}
    others.using = {"a"}
    room.uses.begin(Counter({"c": 1}))
    assert not room.make()
    assert names(loading) == ["a", "c"]
    assert "c" not in others.released, "which this process uses itself"
    assert not room.uses.is_leaving("a") and not room.uses.is_leaving("c")
    others.using = set()
    assert room.make()
    assert names(loading) == ["c"]


def test_those_of_clients_and_pinned_ones_are_not_counted(loading: AdapterLoading) -> None:
    room = BoundedLookup(loading, most=1, pins=["a"])
    assert all(room.load(name) for name in ("a", "b"))
    loading.bring_up("c", name="c", source=Source.CLIENT)
    assert room.make()
    assert names(loading) == ["a", "b", "c"]

"""Adapters on first use, over an engine that counts its loads."""

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import pytest

from serve.adapter_loading import AdapterLoading
from serve.bundle.adapter import WEIGHTS
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import AdapterFailed, UnknownAdapter
from serve.lookup import LookupEngine, look_up
from serve.lookup_room import BoundedLookup
from serve.requests import ClassificationRequest
from tests.serve.conftest import LABELS, Reference, write_adapter, write_bundle

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    for name in NAMES:
        write_adapter(tmp_path / "adapters" / name, reference, "tone", name=name)
    return tmp_path / "adapters"


@pytest.fixture
def loading(tmp_path: Path, root: Path, reference: Reference) -> AdapterLoading:
    bundle = write_bundle(tmp_path / "bundle", reference, ["intent"])
    return AdapterLoading(engine=AsyncClassifier(Classifier(bundle, provider="cpu", threads=1, slots=3)), root=root)


def with_lookup(loading: AdapterLoading, most: int = 2, pins: tuple[str, ...] = ()) -> LookupEngine:
    return LookupEngine(loading.engine, BoundedLookup(loading, most=most, pins=pins))


def request(*adapters: str | None) -> ClassificationRequest:
    return ClassificationRequest(texts=["good"] * len(adapters), adapters=adapters)


async def ask(engine: LookupEngine, *adapters: str | None) -> list[str]:
    """Return the adapters that answer; what is evicted then is gone."""
    found = [one.adapter for one in await engine.classify(request(*adapters))]
    if engine.evicting is not None:
        await engine.evicting
    return found


def names(engine: LookupEngine) -> list[str]:
    return [model.name for model in engine.models()]


def test_one_load_serves_many_requests(loading: AdapterLoading, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load, gate = [], loading.engine.load, threading.Event()

    def slow(folder: Path, **options: object) -> object:
        loads.append(folder.name)
        gate.wait(10)
        return load(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loading.engine, "load", slow)
    engine = with_lookup(loading)

    async def run() -> list[list[str]]:
        async with loading.engine:  # type: ignore[attr-defined]
            asked = [asyncio.create_task(ask(engine, "a")) for _ in range(20)]
            served = await ask(engine, "intent")
            assert served == ["intent"], "what is loaded does not wait"
            asked[0].cancel()
            await asyncio.sleep(0)
            gate.set()
            return await asyncio.gather(*asked[1:])

    assert asyncio.run(run()) == [["a"]] * 19
    assert loads == ["a"]


def test_an_unknown_name_is_unknown_and_leaves_nothing(loading: AdapterLoading, root: Path) -> None:
    engine = with_lookup(loading)
    (root / "empty").mkdir()
    shutil.copytree(root / "a", root / "team" / "a")
    shutil.copytree(root / "a", root.parent / "secret")

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            for name in ("nowhere", "empty", "team/a", "../secret", "..", ".", "", "a\0", "x" * 5000, "./a"):
                with pytest.raises(UnknownAdapter):
                    await ask(engine, name)

    asyncio.run(run())
    assert loading.records == {}


def test_a_bad_one_is_told_and_not_tried_again_until_it_changes(
    loading: AdapterLoading, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = (root / "a" / WEIGHTS).read_bytes()
    (root / "a" / WEIGHTS).write_bytes(weights[:-1])
    loads, load = [], loading.engine.load
    monkeypatch.setattr(
        loading.engine, "load", lambda folder, **options: loads.append(folder.name) or load(folder, **options)
    )
    engine = with_lookup(loading)

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            for _ in range(5):
                with pytest.raises(AdapterFailed) as error:
                    await ask(engine, "a")
                assert "a/adapter.safetensors is damaged" in str(error.value)
                assert str(root) not in str(error.value)
            assert (loads, caplog.text.count("is not served")) == (["a"], 1)
            (root / "a" / WEIGHTS).write_bytes(weights)
            assert await ask(engine, "a") == ["a"]

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert loads == ["a", "a"]


def test_a_folder_whose_adapter_has_another_name_is_refused(
    loading: AdapterLoading, root: Path, reference: Reference
) -> None:
    write_adapter(root / "alias", reference, "tone", name="intent2", labels=LABELS["tone"])
    with pytest.raises(AdapterFailed, match="is called intent2, not alias"):
        loading.look_up("alias")


def test_the_one_that_was_not_used_for_longest_goes(loading: AdapterLoading) -> None:
    engine = with_lookup(loading, most=2)

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            for name in ("a", "b", "a", "c"):
                assert await ask(engine, name) == [name]
            assert names(engine) == ["intent", "a", "c"]
            assert await ask(engine, "b") == ["b"], "it is loaded again"
            assert names(engine) == ["intent", "c", "b"]

    asyncio.run(run())


def test_pinned_ones_and_those_of_a_client_stay(loading: AdapterLoading) -> None:
    engine = with_lookup(loading, most=1, pins=("a",))

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            await ask(engine, "a")
            await loading.load("d", "d", replace=False)
            for name in ("b", "c", "d"):
                await ask(engine, name)
            assert names(engine) == ["intent", "a", "d", "c"], "the one that is kept is none of them"

    asyncio.run(run())


def test_a_request_may_name_more_than_are_kept(loading: AdapterLoading) -> None:
    engine = with_lookup(loading, most=1)

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            for _ in range(3):
                assert await ask(engine, *NAMES, "intent") == [*NAMES, "intent"]
                assert len(loading.looked_up()) == 1

    asyncio.run(run())


def test_many_requests_for_more_than_are_kept_are_all_answered_by_their_own(loading: AdapterLoading) -> None:
    engine = with_lookup(loading, most=1)

    async def run() -> list[list[str]]:
        async with loading.engine:  # type: ignore[attr-defined]
            asked = [(NAMES[index % 4], NAMES[(index * 3 + 1) % 4]) for index in range(60)]
            found = await asyncio.gather(*(engine.classify(request(*two)) for two in asked))
            assert [[one.adapter for one in answers] for answers in found] == [list(two) for two in asked]
            assert not engine.uses.in_use and not engine.loads
            return []

    asyncio.run(run())


def test_an_engine_without_lookup_looks_nothing_up(loading: AdapterLoading) -> None:
    asyncio.run(look_up(loading.engine, "a", None))
    assert loading.records == {}


def test_an_adapter_that_was_unloaded_comes_back_when_it_is_named(loading: AdapterLoading) -> None:
    engine = with_lookup(loading)

    async def run() -> None:
        async with loading.engine:  # type: ignore[attr-defined]
            await ask(engine, "a")
            await loading.unload("a")
            assert await ask(engine, "a") == ["a"]

    asyncio.run(run())

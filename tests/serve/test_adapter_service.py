import argparse
import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.adapter_args import pinned_names
from serve.adapter_loading import AdapterLoading
from serve.adapter_service import check_adapter_settings, load_pinned, watched, with_lookup
from serve.args import load_options, parse_args
from serve.bundle.adapter import WEIGHTS
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import ConfigurationError
from serve.lookup import LookupEngine
from serve.lookup_room import BoundedLookup
from tests.serve.conftest import Reference, write_adapter, write_bundle


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    write_adapter(tmp_path / "adapters" / "intent", reference, "intent")
    return tmp_path / "adapters"


@pytest.fixture
def load(tmp_path: Path, reference: Reference) -> Callable[[argparse.Namespace], AdapterLoading]:
    """Open a bundle as settings say."""
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone"])

    def opened(args: argparse.Namespace) -> AdapterLoading:
        options = {**load_options(args), "provider": "cpu", "threads": 1, "cache": None}
        engine = AsyncClassifier(Classifier(bundle, **options))  # type: ignore[arg-type]
        return AdapterLoading(engine=engine, root=args.adapter_dir)

    return opened


def settings(*flags: object) -> argparse.Namespace:
    return parse_args(["bundle", "--slots", "3", *map(str, flags)])


def names(loading: AdapterLoading) -> list[str]:
    return [model.name for model in loading.engine.models()]


def test_names_to_pin_are_repeated_or_listed() -> None:
    assert pinned_names(settings("--pin", "a,b", "--pin", "c").pin) == {"a", "b", "c"}
    assert pinned_names([]) == frozenset()


@pytest.mark.parametrize("flag", [("--adapter-watch", "2"), ("--adapter-lookup",)])
def test_watch_and_lookup_need_a_folder(flag: tuple[str, ...], root: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag[0]} needs --adapter-dir"):
        check_adapter_settings(settings(*flag))
    check_adapter_settings(settings(*flag, "--adapter-dir", root))


def test_without_the_flags_nothing_is_watched_and_nothing_looked_up(
    load: Callable[[argparse.Namespace], AdapterLoading], root: Path
) -> None:
    args = settings("--adapter-dir", root)
    loading = load(args)
    assert with_lookup(loading.engine, loading, args) is loading.engine
    load_pinned(loading, args)
    with watched(loading, args):
        assert names(loading) == ["tone"]


def test_the_lookup_has_its_bound_and_its_pins(
    load: Callable[[argparse.Namespace], AdapterLoading], root: Path
) -> None:
    args = settings("--adapter-dir", root, "--adapter-lookup", "--max-lookup-adapters", 7, "--pin", "tone")
    loading = load(args)
    engine = with_lookup(loading.engine, loading, args)
    assert isinstance(engine, LookupEngine)
    assert isinstance(engine.room, BoundedLookup)
    assert (engine.room.most, engine.room.pins) == (7, {"tone"})
    asyncio.run(engine.look_up(["intent"]))
    assert names(loading) == ["tone", "intent"]


def test_the_watch_loads_what_is_there(load: Callable[[argparse.Namespace], AdapterLoading], root: Path) -> None:
    args = settings("--adapter-dir", root, "--adapter-watch", 3600)
    loading = load(args)
    with watched(loading, args):
        assert names(loading) == ["tone", "intent"]
        assert [thread.name for thread in threading.enumerate()].count("adamix-adapter-watch") == 1
    assert "adamix-adapter-watch" not in [thread.name for thread in threading.enumerate()]


def test_a_pinned_adapter_is_loaded_at_the_start(
    load: Callable[[argparse.Namespace], AdapterLoading], root: Path
) -> None:
    args = settings("--adapter-dir", root, "--pin", "tone,intent")
    loading = load(args)
    load_pinned(loading, args)
    places = loading.engine.adapter_places()  # type: ignore[attr-defined]
    assert {name: place.pinned for name, place in places.items()} == {"tone": True, "intent": True}


def test_a_pinned_name_that_is_unknown_is_one_line_or_may_come_later(
    load: Callable[[argparse.Namespace], AdapterLoading],
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    args = settings("--pin", "mood")
    with pytest.raises(ConfigurationError, match="--pin mood: there is no adapter of this name"):
        load_pinned(load(args), args)
    (root / "intent" / WEIGHTS).write_bytes(b"")
    args = settings("--adapter-dir", root, "--pin", "mood,intent")
    with caplog.at_level(logging.WARNING):
        load_pinned(load(args), args)
    assert "--pin mood: there is no adapter of this name yet" in caplog.text
    assert "adapter intent was looked up and is not served: intent/adapter.safetensors is damaged" in caplog.text

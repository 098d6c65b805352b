"""The adapters of a server as its flags have them: what is loaded at the start, looked up, watched and pinned."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from serve.adapter_args import pinned_names
from serve.adapter_loading import AdapterLoading
from serve.adapter_watch import AdapterWatch
from serve.engine import Engine
from serve.errors import AdapterFailed, ConfigurationError
from serve.lookup import LookupEngine
from serve.lookup_room import BoundedLookup, Siblings

logger = logging.getLogger(__name__)
NEED_FOLDER = ("adapter_watch", "adapter_lookup")


def check_adapter_settings(args: argparse.Namespace) -> None:
    """Raise a ConfigurationError for settings that mean nothing without --adapter-dir."""
    for name in NEED_FOLDER:
        if getattr(args, name) and args.adapter_dir is None:
            raise ConfigurationError(f"--{name.replace('_', '-')} needs --adapter-dir, the folder of the adapters")


def with_lookup(
    engine: Engine, loading: AdapterLoading, args: argparse.Namespace, siblings: Siblings | None = None
) -> Engine:
    """Return an engine that loads adapters on first use if the settings say so, or the engine itself."""
    if not args.adapter_lookup:
        return engine
    most, pins = args.max_lookup_adapters, pinned_names(args.pin)
    return LookupEngine(engine, BoundedLookup(loading, most=most, pins=pins, siblings=siblings))


@contextmanager
def watched(loading: AdapterLoading, args: argparse.Namespace) -> Iterator[None]:
    """Load what is in the watched folder, and watch it until the block ends; with --adapter-watch alone."""
    if args.adapter_watch is None:
        yield
        return
    watch = AdapterWatch(loading, seconds=args.adapter_watch, on_demand=bool(args.adapter_lookup))
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def load_pinned(loading: AdapterLoading, args: argparse.Namespace) -> None:
    """Load pinned adapters that lie in --adapter-dir.

    Raises:
        ConfigurationError: There is no adapter of a pinned name, and no folder that it may appear in.
    """
    for name in sorted(pinned_names(args.pin)):
        if loading.engine.serves(name):
            continue
        if args.adapter_dir is None:
            raise ConfigurationError(f"--pin {name}: there is no adapter of this name")
        try:
            found = loading.look_up(name)
        except AdapterFailed:
            continue  # which the log and the status tell
        if not found:
            logger.warning("--pin %s: there is no adapter of this name yet", name)

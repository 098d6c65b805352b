"""Cache of optimised graphs on disk, whose weights sessions and processes share, apart from the bundle's files.

The weights of a cached graph are stored in the layout that the kernels read and are mapped into memory: there is one
copy, where each session would otherwise have its own, and what happens to the bundle's files changes no answer. It does
not make starts faster: ONNX Runtime lays weights out again, to compare, and the entry's hashes are checked.

An optimised graph answers in the place of the one whose hash was checked, so that only a folder that nobody else can
change is read.
"""

import hashlib
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime as ort

from serve.bundle.checked_json import file_sha256, read_checked_json, write_checked_json
from serve.errors import BundleError, first_line
from serve.runtime.cache_folder import cache_root, new_entry, require_private, sweep, trim

logger = logging.getLogger(__name__)

GRAPH = "graph.onnx"
WEIGHTS = "weights.bin"
CHECKSUMS = "cached.json"
"""Files of an entry; the last holds the sha256 of the other two, and the entry's name."""
FILES = (CHECKSUMS, GRAPH, WEIGHTS)
KEY = "key"
"""Key of an entry's own name in `CHECKSUMS`, so that no entry passes as another."""
NAME = re.compile("[0-9a-f]{64}")
HASHED: set[tuple[tuple[int, ...], ...]] = set()
"""Entries that this process has hashed, as `_states` tells their files: its next session of a graph need not."""
SIZE_VARIABLE, DEFAULT_GIB = "ADAMIX_CACHE_SIZE", "20"
MIN_EXTERNAL_BYTES = 1024
"""Size from which a weight is stored in `WEIGHTS` rather than in `GRAPH`."""
SAVE_SETTINGS = {
    "session.optimized_model_external_initializers_file_name": WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": str(MIN_EXTERNAL_BYTES),
    "session.save_external_prepacked_constant_initializers": "1",
}
"""ONNX Runtime's settings for a session that saves its optimised graph."""
OpenGraph = Callable[[Path, ort.SessionOptions], ort.InferenceSession]


def default_cache() -> Path:
    """Return the default folder of the graph cache."""
    return cache_root() / "graphs"


def cache_key(hashes: Sequence[str], provider: str, disabled_optimizers: Sequence[str]) -> str:
    """Return the name of a cached graph: a hash of everything that its optimised form depends on.

    Args:
        hashes: sha256 of the model's files.
        provider: Execution provider that the graph is optimised for.
        disabled_optimizers: Optimizers of ONNX Runtime that are switched off.
    """
    facts = [KEY, sorted(hashes), provider, sorted(disabled_optimizers), ort.__version__, _cpu_model()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def cached_session(
    model: Path, cache: Path, key: str, make_options: Callable[[], ort.SessionOptions], open_graph: OpenGraph
) -> ort.InferenceSession:
    """Return a session for the optimised graph of `model`, which is saved first if the cache does not have it.

    If the cache cannot be read or written, the model itself is opened and a warning is logged.

    Args:
        model: ONNX file.
        cache: Folder of the cache.
        key: Name of the entry, from `cache_key`.
        make_options: Makes the options of a session.
        open_graph: Opens a session for an ONNX file.
    """
    entry = cache / key
    try:
        max_bytes = cache_bytes()
        entry = _opened(cache) / key
        if not _is_intact(entry):
            _save(model, entry, make_options(), open_graph)
        options = make_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = open_graph(entry / GRAPH, options)
        _note_use(entry, max_bytes)
        return session
    except Exception as error:  # the model itself can still be opened, whatever happened to the cache
        logger.warning("the graph cache %s is not used: %s", entry, first_line(error))
        return open_graph(model, make_options())


def cache_bytes() -> int:
    """Return the bytes that the cache may have: $ADAMIX_CACHE_SIZE in GiB, or else 20 GiB.

    Raises:
        ValueError: It is no number of GiB.
    """
    text = os.environ.get(SIZE_VARIABLE) or DEFAULT_GIB
    try:
        return int(float(text) * 2**30)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{SIZE_VARIABLE} is {text!r}, which is no number of GiB") from error


def _opened(cache: Path) -> Path:
    """Return the folder of the cache, links resolved, made if it is not there and without half-written entries.

    Raises:
        OSError: It cannot be made, or others can change it.
    """
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = cache.resolve()
    require_private(folder)
    sweep(folder)
    return folder


def _note_use(entry: Path, max_bytes: int) -> None:
    """Note that an entry is used now, and remove those that have not been for longest if the cache is too large."""
    try:
        os.utime(entry)
        entries = [one for one in entry.parent.iterdir() if NAME.fullmatch(one.name) and (one / CHECKSUMS).exists()]
        for removed in trim(entries, kept=entry, max_bytes=max_bytes):
            logger.info("removed the cached graph %s: the cache has %d bytes at most", removed, max_bytes)
    except OSError as error:
        logger.debug("the graph cache %s is not tidied: %s", entry.parent, error)


def _is_intact(entry: Path) -> bool:
    """Return True if an entry is this one, its checksums match and nobody else can change it; others are removed."""
    if not entry.exists():
        return False
    try:
        for path in (entry, *(entry / name for name in FILES)):
            require_private(path)
        states, hashes = _states(entry), read_checked_json(entry / CHECKSUMS)
        if hashes.get(KEY) == entry.name and (
            states in HASHED or all(file_sha256(entry / name) == hashes[name] for name in (GRAPH, WEIGHTS))
        ):
            HASHED.add(states)
            return True
    except (BundleError, OSError, KeyError):
        pass
    logger.warning("the cached graph %s is damaged: it is made again", entry)
    shutil.rmtree(entry)
    return False


def _states(entry: Path) -> tuple[tuple[int, ...], ...]:
    """Return the files of an entry with what changes when one is written or replaced."""
    found = [(entry / name).stat() for name in FILES]
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)


def _save(model: Path, entry: Path, options: ort.SessionOptions, open_graph: OpenGraph) -> None:
    """Save the optimised graph of `model` as an entry that only its owner can change."""
    with new_entry(entry) as folder:
        folder.chmod(0o700)
        options.optimized_model_filepath = str(folder / GRAPH)
        for name, value in SAVE_SETTINGS.items():
            options.add_session_config_entry(name, value)
        open_graph(model, options)
        (folder / WEIGHTS).touch()
        hashes = {name: file_sha256(folder / name) for name in (GRAPH, WEIGHTS)}
        write_checked_json(folder / CHECKSUMS, {KEY: entry.name, **hashes})
        for file in folder.iterdir():
            file.chmod(0o600)
    logger.info("saved the optimised graph in %s", entry)


def _cpu_model() -> str:
    """Return the CPU's model and features; prepacked weights fit only CPUs that are alike."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))

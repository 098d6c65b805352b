"""Graphs as ONNX Runtime has optimised them, kept on disk for the next start.

Their weights lie there in the layout that the kernels read, and are mapped into memory: the sessions of a process and
the processes of a machine share one copy, where each would otherwise repack its own.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime as ort

from serve.bundle.checked_json import file_sha256, read_sealed, write_sealed
from serve.errors import BundleError

logger = logging.getLogger(__name__)

GRAPH = "graph.onnx"
WEIGHTS = "weights.bin"
SEAL = "cached.json"
SMALLEST = 1024
"""Bytes of the smallest weight that lies outside the graph's file."""
ENTRIES = {
    "session.optimized_model_external_initializers_file_name": WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": str(SMALLEST),
    "session.save_external_prepacked_constant_initializers": "1",
}
Open = Callable[[Path, ort.SessionOptions], ort.InferenceSession]


def default_cache() -> Path:
    """Return $ADAMIX_CACHE/graphs, by default ~/.cache/adamix/graphs."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamix"
    return Path(os.environ.get("ADAMIX_CACHE") or default) / "graphs"


def key_of(hashes: Sequence[str], provider: str, disabled: Sequence[str]) -> str:
    """Return the name of a cached graph: all that its optimised form depends on, hashed."""
    facts = [sorted(hashes), provider, sorted(disabled), ort.__version__, _processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def cached_session(
    model: Path, folder: Path, key: str, options: Callable[[], ort.SessionOptions], open_graph: Open
) -> ort.InferenceSession:
    """Return a session for `model` from the cache in `folder`, after writing what is not there.

    Without a cache that can be written or read the session is opened as if there were none.
    """
    kept = folder / key
    try:
        if not _whole(kept):
            _write(model, kept, options(), open_graph)
        settings = options()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return open_graph(kept / GRAPH, settings)
    except Exception as error:  # the cache may fail in any way: the model itself is still there
        logger.warning("the graph cache %s is not used: %s", kept, str(error).strip().splitlines()[0])
        return open_graph(model, options())


def _whole(kept: Path) -> bool:
    """Return whether a cached graph is there; one that was changed is removed."""
    if not kept.exists():
        return False
    try:
        hashes = read_sealed(kept / SEAL)
        if all(file_sha256(kept / name) == hashes[name] for name in (GRAPH, WEIGHTS)):
            return True
    except (BundleError, OSError, KeyError):
        pass
    logger.warning("the cached graph %s is damaged: it is made again", kept)
    shutil.rmtree(kept)
    return False


def _write(model: Path, kept: Path, options: ort.SessionOptions, open_graph: Open) -> None:
    """Write the optimised graph, whole or not at all; if another process was first, its own is as good."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial.", dir=kept.parent, ignore_cleanup_errors=True) as partial:
        made = Path(partial) / kept.name
        made.mkdir(mode=0o700)
        options.optimized_model_filepath = str(made / GRAPH)
        for name, value in ENTRIES.items():
            options.add_session_config_entry(name, value)
        open_graph(model, options)
        (made / WEIGHTS).touch()
        write_sealed(made / SEAL, {name: file_sha256(made / name) for name in (GRAPH, WEIGHTS)})
        try:
            made.rename(kept)
        except OSError:
            if not kept.exists():
                raise
            return
    logger.info("kept the optimised graph in %s", kept)


def _processor() -> str:
    """Return what distinguishes this processor from others; packed weights fit only its like."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))

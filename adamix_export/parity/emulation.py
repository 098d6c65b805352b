"""The bundle that a comparison with PyTorch runs: itself, or an emulation of what the CPU cannot compute."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adamix_export.passes.rewrite_file import derive_file
from adamix_export.precision.table import EMULATIONS
from serve.bundle.manifest import EDGES, Manifest
from serve.bundle.reader import Bundle

EMULATED = "fp32"
"""Precision that an emulation is computed in."""


@contextmanager
def runnable_on_cpu(bundle: Bundle) -> Iterator[Bundle]:
    """Yield a bundle with the weights of `bundle`, whose graphs the CPU runs with the rounding of its precision."""
    emulation = EMULATIONS.get(bundle.manifest.precision)
    if emulation is None:
        yield bundle
        return
    beside = bundle.folder.resolve().parent  # weights are linked, which takes the same disk
    with tempfile.TemporaryDirectory(dir=beside, prefix=f".{bundle.folder.name}.") as scratch:
        folder = Path(scratch) / "bundle"
        shutil.copytree(bundle.folder, folder, copy_function=_link)
        for graph in (bundle.model, bundle.encoder):
            if graph is not None:
                emulated = folder / f"emulated.{graph.name}"
                derive_file(folder / graph.name, emulation, emulated)
                emulated.replace(folder / graph.name)
        yield replace(bundle, folder=folder, manifest=_in_fp32(bundle.manifest))


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the disk has no links."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _in_fp32(manifest: Manifest) -> Manifest:
    edges: dict[str, Any] = {
        side: [replace(edge, dtype=edge.dtype.replace("bfloat16", "float")) for edge in getattr(manifest, side)]
        for side in EDGES
    }
    return replace(manifest, precision=EMULATED, **edges)

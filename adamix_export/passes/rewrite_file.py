"""Rewrite an ONNX file and its external data in place.

Weights are memory-mapped: only those that change take memory.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from adamix_export.passes.nodes import DOMAIN

Rewrite = Callable[[ir.Graph], None]
IN_FLIGHT = 64 * 2**20
"""Maximum bytes of weights in memory while they are written."""


def rewrite_file(file: Path, rewrite: Rewrite) -> None:
    """Apply `rewrite` to the graph in `file`."""
    model = _rewritten(file, rewrite)
    data = f"{file.name}.data"
    # The new files replace the old ones at the end: unchanged weights are read from the old file until then.
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        ir.save(model, Path(scratch) / file.name, external_data=data, max_in_flight_bytes=IN_FLIGHT)
        for name in (file.name, data):
            (Path(scratch) / name).replace(file.with_name(name))


def derive_file(file: Path, rewrite: Rewrite, target: Path) -> None:
    """Write the graph in `file`, rewritten, to `target` in the same folder; both refer to the same external weights.

    Weights that the rewrite adds are stored in the graph itself.
    """
    ir.save(_rewritten(file, rewrite), target)


def _rewritten(file: Path, rewrite: Rewrite) -> ir.Model:
    model = ir.load(file)
    rewrite(model.graph)
    RemoveUnusedNodesPass()(model)
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    return model

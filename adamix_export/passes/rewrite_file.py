"""Read a graph, change it, and write it in its own place, its weights beside it.

Weights are mapped from the file rather than read: only those that change take memory.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from adamix_export.passes.nodes import DOMAIN

Rewrite = Callable[[ir.Graph], None]
IN_FLIGHT = 64 * 2**20
"""Bytes of weights on their way to the file at a time."""


def rewrite_file(file: Path, rewrite: Rewrite) -> None:
    """Apply `rewrite` to the graph in `file`."""
    model = ir.load(file)
    rewrite(model.graph)
    RemoveUnusedNodesPass()(model)
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    data = f"{file.name}.data"
    # Beside the old weights first: those that do not change are still read from there.
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        ir.save(model, Path(scratch) / file.name, external_data=data, max_in_flight_bytes=IN_FLIGHT)
        for name in (file.name, data):
            (Path(scratch) / name).replace(file.with_name(name))

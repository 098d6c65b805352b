"""Read a graph, change it, and write it in its own place, its weights beside it.

Weights are mapped from the file rather than read: only those that change take memory.
"""

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from adamix_export.precision.matrices import DOMAIN

Rewrite = Callable[[ir.Graph], None]
IN_FLIGHT = 64 * 2**20
"""Bytes of weights on their way to the file at a time."""


def rewrite_file(file: Path, rewrite: Rewrite) -> None:
    """Apply `rewrite` to the graph in `file`."""
    model = ir.load(file)
    rewrite(model.graph)
    RemoveUnusedNodesPass()(model)
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    ir.save(model, file, external_data=f"{file.name}.data", max_in_flight_bytes=IN_FLIGHT)

"""Attention with its projections inside: query, key and value of the same states become one product of packed weights.

`MultiHeadAttention` takes three projections; where they are plain ones, `Attention` does the same with one product that
it writes as its scores are read. An adapter on one of them stands in the way, and that attention stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from adamix_export.passes.nodes import constant, known, replace

PROJECTED = 3
MASK, SCORES = 4, 5
"""Inputs of `MultiHeadAttention`: the key padding mask, and what is added to the scores."""


@dataclass(frozen=True)
class Projection:
    """A product of states and a matrix of the graph's own, with its bias."""

    states: ir.Value
    weight: NDArray[np.generic]
    """(in, out)"""
    bias: NDArray[np.generic] | None
    """(out,)"""


def pack_projections(model: ir.Model) -> None:
    """Replace `MultiHeadAttention` by `Attention` wherever its projections can be packed."""
    for node in list(model.graph):
        if node.op_type != "MultiHeadAttention":
            continue
        packed = [found for value in node.inputs[:PROJECTED] if (found := _projection(value)) is not None]
        if len(packed) == PROJECTED and _belong_together(packed) and not _others(node):
            _pack(model.graph, node, packed)


def _others(node: ir.Node) -> list[ir.Value]:
    """Return inputs that `Attention` has no counterpart of."""
    return [value for index, value in enumerate(node.inputs) if value is not None and index not in (0, 1, 2, 4, 5)]


def _projection(value: ir.Value | None) -> Projection | None:
    """Return the projection that makes a value, if it makes nothing else."""
    node, bias = _only_producer(value), None
    if node is not None and node.op_type == "Add":
        product, bias = _constant_last(node)
        if bias is None or bias.ndim != 1:
            return None
        node = _only_producer(product)
    if node is None or node.op_type != "MatMul":
        return None
    states, weight = _constant_last(node)
    if weight is None or weight.ndim != 2:
        return None
    return Projection(states, weight, bias)


def _constant_last(node: ir.Node) -> tuple[ir.Value, NDArray[np.generic] | None]:
    """Return the two inputs of a node, of which the second is a constant, or None if it is not."""
    first, second = node.inputs
    assert first is not None and second is not None
    if node.op_type == "Add" and known(second) is None:
        first, second = second, first
    return first, known(second)


def _belong_together(projections: Sequence[Projection]) -> bool:
    """Whether projections have the same states and sizes, and all of them a bias or none."""
    return all(
        len({key(projection) for projection in projections}) == 1
        for key in (
            lambda projection: projection.states,
            lambda projection: projection.weight.shape,
            lambda projection: projection.bias is None,
        )
    )


def _pack(graph: ir.Graph, node: ir.Node, projections: Sequence[Projection]) -> None:
    weight = constant(graph, f"{node.name}.weight", np.concatenate([found.weight for found in projections], 1))
    biases = [found.bias for found in projections if found.bias is not None]
    bias = constant(graph, f"{node.name}.bias", np.concatenate(biases)) if biases else None
    mask, scores = ((list(node.inputs) + [None] * 6)[index] for index in (MASK, SCORES))
    attributes = {name: node.attributes[name].value for name in ("num_heads", "scale")}
    inputs = [projections[0].states, weight, bias, mask, None, scores]
    replace(graph, [node], "Attention", inputs, **attributes)


def _only_producer(value: ir.Value | None) -> ir.Node | None:
    """Return what makes a value that is used once."""
    return value.producer() if value is not None and len(value.uses()) == 1 else None

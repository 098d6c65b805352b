"""Fuse query, key and value projections into attention.

`MultiHeadAttention` takes three projected tensors. Where these are plain projections of the same hidden states,
`Attention` computes them itself as one product with packed weights, in the layout that it reads. Attention with an
adapter on one of its projections is left unchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from adamix_export.passes.nodes import constant, known, replace

PROJECTED = 3
MASK, SCORES = 4, 5
"""Inputs of `MultiHeadAttention`: the key padding mask, and the bias added to the scores."""


@dataclass(frozen=True)
class Projection:
    """A product of hidden states with a constant matrix and an optional constant bias."""

    states: ir.Value
    weight: NDArray[np.generic]
    """(in, out)"""
    bias: NDArray[np.generic] | None
    """(out,)"""


def fuse_qkv_attention(model: ir.Model) -> None:
    """Replace `MultiHeadAttention` by `Attention` wherever its projections can be packed."""
    for node in list(model.graph):
        if node.op_type != "MultiHeadAttention":
            continue
        packed = [found for value in node.inputs[:PROJECTED] if (found := _projection(value)) is not None]
        if len(packed) == PROJECTED and _can_be_packed(packed) and not _unsupported(node):
            _pack(model.graph, node, packed)


def _unsupported(node: ir.Node) -> bool:
    """Return True if `Attention` has no counterpart for an input, or if a token attends to earlier ones alone."""
    inputs = [value for index, value in enumerate(node.inputs) if value is not None and index not in (0, 1, 2, 4, 5)]
    return bool(inputs) or "unidirectional" in node.attributes


def _projection(value: ir.Value | None) -> Projection | None:
    """Return the projection that computes a value, or None if the value is no projection or is used elsewhere too."""
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
    """Return the two inputs of a node, the second as an array, or None if it is not constant."""
    first, second = node.inputs
    assert first is not None and second is not None
    if node.op_type == "Add" and known(second) is None:
        first, second = second, first
    return first, known(second)


def _can_be_packed(projections: Sequence[Projection]) -> bool:
    """Return True if projections have the same input and shape, and all or none have a bias."""
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
    """Return the producer of a value that is used exactly once."""
    return value.producer() if value is not None and len(value.uses()) == 1 else None

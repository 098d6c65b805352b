"""Fuse matrix products of the same hidden states: query, key and value, or the first two of a gated feed-forward.

One product reads the states once and has more columns to distribute over cores. Its output is split again, unless
attention takes query, key and value in one tensor. Adapters of a bank are added to the parts.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from adamix_export.passes.matrices import Product, products
from adamix_export.passes.nodes import constant, initializer

PROJECTED = 3
"""Number of inputs of `GroupQueryAttention` for query, key and value; the first may hold all three."""


def fuse_projections(model: ir.Model) -> None:
    """Replace products of the same states by one product with the concatenated matrices."""
    groups: dict[tuple[ir.Value, bool], list[Product]] = {}
    for product in products(model.graph, smallest=1):
        if not product.transposed:
            groups.setdefault((product.states, product.bias is None), []).append(product)
    for group in groups.values():
        if len(group) > 1:
            _fuse(model.graph, group)
    for node in model.graph:
        if node.op_type == "GroupQueryAttention":
            _take_fused(node)


def _fuse(graph: ir.Graph, group: Sequence[Product]) -> None:
    first = group[0].node
    widths = [product.weight.shape[0] for product in group]
    fused = _product(graph, group, sum(widths))
    sizes = constant(graph, f"{first.name}.widths", np.array(widths, np.int64))
    split = ir.node("Split", [fused, sizes], {"axis": -1}, num_outputs=len(group), name=f"{first.name}.split")
    graph.insert_before(first, split)
    for product, part in zip(group, split.outputs, strict=True):
        old = product.nodes[-1].outputs[0]
        part.type, part.shape, name = old.type, old.shape, old.name
        old.replace_all_uses_with(part, replace_graph_outputs=True)
        for node in reversed(product.nodes):
            graph.remove(node, safe=True)
        part.name = name


def _product(graph: ir.Graph, group: Sequence[Product], width: int) -> ir.Value:
    """Insert the product of a group's states with its concatenated matrices and biases; return it (…, width)."""
    first, states = group[0].node, group[0].states
    weight = _concatenated(graph, f"{first.name}.weights", [product.matrix for product in group])
    value = _insert(graph, first, "MatMul", [states, weight], width)
    if biases := [product.bias for product in group if product.bias is not None]:
        value = _insert(graph, first, "Add", [value, _concatenated(graph, f"{first.name}.biases", biases)], width)
    return value


def _insert(graph: ir.Graph, before: ir.Node, op_type: str, inputs: Sequence[ir.Value], width: int) -> ir.Value:
    """Insert a node; return its output (…, width)."""
    node = ir.node(op_type, inputs, name=f"{before.name}.fused.{op_type}")
    (value,) = node.outputs
    states = inputs[0]
    assert states.shape is not None
    value.name, value.type, value.shape = f"{node.name}.out", states.type, ir.Shape([*states.shape[:-1], width])
    graph.insert_before(before, node)
    return value


def _concatenated(graph: ir.Graph, name: str, values: Sequence[ir.Value]) -> ir.Value:
    """Return the concatenation of constants along their last axis; it is computed when the file is written."""
    tensors = [value.const_value for value in values if value.const_value is not None]
    *before, _ = tensors[0].shape.numpy()
    shape = ir.Shape([*before, sum(tensor.shape.numpy()[-1] for tensor in tensors)])

    def concatenate() -> ir.TensorProtocol:
        return ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors], -1))

    return initializer(graph, ir.LazyTensor(concatenate, tensors[0].dtype, shape, name=name))


def _take_fused(node: ir.Node) -> None:
    """Give attention the fused product instead of its three parts, if they are all of it and in this order."""
    parts = node.inputs[:PROJECTED]
    split = parts[0].producer() if parts[0] is not None else None
    if split is None or split.op_type != "Split" or list(split.outputs) != list(parts):
        return
    for index, value in enumerate((split.inputs[0], None, None)):
        node.replace_input_with(index, value)

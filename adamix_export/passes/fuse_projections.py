"""Products of the same states as one: a decoder's query, key and value, or the two that its feed-forward begins with.

One product reads the states once and has more columns to share among cores. What it gives is split again, but for
attention that takes query, key and value as they lie. Adapters of a bank are added to the parts.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from adamix_export.passes.matrices import Product, products
from adamix_export.passes.nodes import constant, initializer

PROJECTED = 3
"""Inputs of `GroupQueryAttention` that are query, key and value, or all of them in the first."""


def join_products(model: ir.Model) -> None:
    """Replace products of the same states by one of their matrices side by side."""
    groups: dict[tuple[ir.Value, bool], list[Product]] = {}
    for product in products(model.graph, smallest=1):
        if not product.transposed:
            groups.setdefault((product.states, product.bias is None), []).append(product)
    for group in groups.values():
        if len(group) > 1:
            _join(model.graph, group)
    for node in model.graph:
        if node.op_type == "GroupQueryAttention":
            _take_whole(node)


def _join(graph: ir.Graph, group: Sequence[Product]) -> None:
    first = group[0].node
    widths = [product.weight.shape[0] for product in group]
    joined = _product(graph, group, sum(widths))
    sizes = constant(graph, f"{first.name}.widths", np.array(widths, np.int64))
    split = ir.node("Split", [joined, sizes], {"axis": -1}, num_outputs=len(group), name=f"{first.name}.split")
    graph.insert_before(first, split)
    for product, part in zip(group, split.outputs, strict=True):
        old = product.nodes[-1].outputs[0]
        part.type, part.shape, name = old.type, old.shape, old.name
        old.replace_all_uses_with(part, replace_graph_outputs=True)
        for node in reversed(product.nodes):
            graph.remove(node, safe=True)
        part.name = name


def _product(graph: ir.Graph, group: Sequence[Product], width: int) -> ir.Value:
    """Return the product (…, width) of the states of a group and all its matrices, with their biases."""
    first, states = group[0].node, group[0].states
    weight = _side_by_side(graph, f"{first.name}.weights", [product.matrix for product in group])
    value = _added(graph, first, "MatMul", [states, weight], width)
    if biases := [product.bias for product in group if product.bias is not None]:
        value = _added(graph, first, "Add", [value, _side_by_side(graph, f"{first.name}.biases", biases)], width)
    return value


def _added(graph: ir.Graph, before: ir.Node, op_type: str, inputs: Sequence[ir.Value], width: int) -> ir.Value:
    """Return the output (…, width) of a new node."""
    node = ir.node(op_type, inputs, name=f"{before.name}.joined.{op_type}")
    (value,) = node.outputs
    states = inputs[0]
    assert states.shape is not None
    value.name, value.type, value.shape = f"{node.name}.out", states.type, ir.Shape([*states.shape[:-1], width])
    graph.insert_before(before, node)
    return value


def _side_by_side(graph: ir.Graph, name: str, values: Sequence[ir.Value]) -> ir.Value:
    """Return a constant of constants along their last axis, which takes no memory before it is written."""
    tensors = [value.const_value for value in values if value.const_value is not None]
    *before, _ = tensors[0].shape.numpy()
    shape = ir.Shape([*before, sum(tensor.shape.numpy()[-1] for tensor in tensors)])

    def joined() -> ir.TensorProtocol:
        return ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors], -1))

    return initializer(graph, ir.LazyTensor(joined, tensors[0].dtype, shape, name=name))


def _take_whole(node: ir.Node) -> None:
    """Give an attention what its query, key and value are parts of, if they are all of it."""
    parts = node.inputs[:PROJECTED]
    split = parts[0].producer() if parts[0] is not None else None
    if split is None or split.op_type != "Split" or list(split.outputs) != list(parts):
        return
    for index, value in enumerate((split.inputs[0], None, None)):
        node.replace_input_with(index, value)

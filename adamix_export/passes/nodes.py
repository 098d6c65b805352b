"""Constants and nodes of a graph, read and replaced."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

DOMAIN = "com.microsoft"
"""Of ONNX Runtime's own operators."""


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Return a new initializer of a graph."""
    return initializer(graph, ir.tensor(array, name=name))


def initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    """Return a new initializer of a graph, by the tensor's name."""
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
    graph.initializers.add(value)
    return value


def known(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return what a value holds whatever is fed, or None if that is not known."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def replace(
    graph: ir.Graph,
    nodes: Sequence[ir.Node],
    op_type: str,
    inputs: Sequence[ir.Value | None],
    **attributes: int | float,
) -> None:
    """Put one of ONNX Runtime's own operators in the place of a chain of nodes."""
    old = nodes[-1].outputs[0]
    node = ir.node(op_type, inputs, attributes, domain=DOMAIN, name=f"{nodes[0].name}_{op_type}")
    (new,) = node.outputs
    new.type, new.shape = old.type, old.shape
    graph.insert_before(nodes[-1], node)
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    for gone in reversed(nodes):
        graph.remove(gone, safe=True)
    new.name = name

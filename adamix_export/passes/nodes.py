"""Access to the constants of a graph, and replacement of nodes."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

DOMAIN = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an initializer to a graph and return it."""
    return initializer(graph, ir.tensor(array, name=name))


def initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    """Add an initializer with the tensor's name to a graph and return it."""
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
    graph.initializers.add(value)
    return value


def known(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array of a constant value, or None if it is not constant."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def insert_after_producer(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    """Insert a node after the producer of a value, or at the beginning if the value is an input of the graph."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)


def replace(
    graph: ir.Graph,
    nodes: Sequence[ir.Node],
    op_type: str,
    inputs: Sequence[ir.Value | None],
    **attributes: int | float,
) -> None:
    """Replace a chain of nodes by one of ONNX Runtime's own operators."""
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

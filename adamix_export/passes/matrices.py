"""Matrix products and embeddings found in a graph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

SMALLEST = 64
"""Matrices with a smaller side, such as those of adapters and heads, are not worth quantizing."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """A product of hidden states with a constant matrix, and the addition of its bias if there is one."""

    node: ir.Node
    states: ir.Value
    matrix: ir.Value
    transposed: bool
    """True if the graph holds the matrix as (out, in), False if as (in, out)."""
    addition: ir.Node | None
    bias: ir.Value | None

    @property
    def nodes(self) -> list[ir.Node]:
        """The product's nodes, in order of execution."""
        return [self.node] if self.addition is None else [self.node, self.addition]

    @property
    def is_head(self) -> bool:
        """The graph gives the product's result, as it does of logits."""
        return self.nodes[-1].outputs[0].is_graph_output()

    @property
    def weight(self) -> Array:
        """The matrix (out, in)."""
        array = _array(self.matrix)
        return array if self.transposed else array.T


def products(graph: ir.Graph, *, smallest: int = SMALLEST) -> Iterator[Product]:
    """Yield the products with a constant matrix whose sides are at least `smallest`."""
    for node in list(graph):
        if node.op_type != "MatMul":
            continue
        states, matrix = node.inputs
        assert states is not None and matrix is not None
        transpose = matrix.producer()
        transposed = transpose is not None and transpose.op_type == "Transpose"
        if transpose is not None and transposed:
            (matrix,) = transpose.inputs
        if is_large(matrix, smallest=smallest):
            assert matrix is not None
            yield Product(node, states, matrix, transposed, *_bias(node))


def embeddings(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes that gather rows of a large matrix."""
    for node in list(graph):
        if node.op_type == "Gather" and node.inputs[0] is not None and is_large(node.inputs[0]):
            yield node


def is_large(value: ir.Value | None, *, smallest: int = SMALLEST) -> bool:
    """Return True if a value is a constant fp32 matrix whose sides are at least `smallest`."""
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return False
    return min(tensor.shape.numpy()) >= smallest


def table(node: ir.Node) -> Array:
    """Return the matrix of an embedding."""
    assert node.inputs[0] is not None
    return _array(node.inputs[0])


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _bias(node: ir.Node) -> tuple[ir.Node, ir.Value] | tuple[None, None]:
    """Return the node that adds a constant vector to a node's output, and the vector."""
    uses = node.outputs[0].uses()
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None, None
    ((addition, index),) = uses
    if addition.op_type != "Add":
        return None, None
    bias = addition.inputs[1 - index]
    if bias is None or bias.const_value is None or len(bias.const_value.shape) != 1:
        return None, None
    return addition, bias

"""Remove computation for tokens whose states are not used.

A classification head reads the first token of each sequence. The last layer then needs its queries, attention output,
feed-forward and norms for that token only, but keys and values for all tokens. In a model of six layers this saves the
matrix products of nearly one layer. The graph's outputs do not change.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, insert_after_producer, known

SEQUENCE = 1
"""Axis of the tokens in hidden states (batch, sequence, width)."""
QUERY, ATTENTION_BIAS = 0, 5
"""Indices of inputs of `MultiHeadAttention`."""


def narrow_to_first_token(model: ir.Model) -> None:
    """Slice hidden states to the first token wherever no other token is used."""
    narrow = _narrow_nodes(model.graph)
    cut: dict[ir.Value, ir.Value] = {}
    for node in [node for node in model.graph if node in narrow]:
        for index in _token_inputs(node):
            value = node.inputs[index]
            assert value is not None
            if value.producer() not in narrow:
                node.replace_input_with(index, cut.get(value) or cut.setdefault(value, _first(model.graph, value)))
        for output in node.outputs:
            output.shape = _of_one_token(output)


def _narrow_nodes(graph: ir.Graph) -> set[ir.Node | None]:
    """Return the nodes whose outputs are used for the first token only."""
    whole = set(graph.outputs)
    read: set[ir.Value] = set()
    narrow: set[ir.Node | None] = set()
    for node in reversed(graph):
        tokens: list[int] = []
        if _takes_first_token(node):
            tokens = [0]
        elif read.issuperset(node.outputs) and whole.isdisjoint(node.outputs):
            tokens = _token_inputs(node)
            if tokens:
                narrow.add(node)
        for index, value in enumerate(node.inputs):
            if value is not None:
                (read if index in tokens else whole).add(value)
    return narrow


def _takes_first_token(node: ir.Node) -> bool:
    """Return True if a node is `states[:, 0]`."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != SEQUENCE:
        return False
    states, index = node.inputs
    chosen = known(index)
    return states is not None and _is_states(states) and chosen is not None and chosen.ndim == 0 and chosen == 0


def _token_inputs(node: ir.Node) -> list[int]:
    """Return the indices of inputs that a node needs for the same tokens as its output; none if it mixes tokens."""
    return OPERATORS.get(node.op_type, _no_inputs)(node)


def _elementwise(node: ir.Node) -> list[int]:
    """Return the hidden states among the inputs; vectors and scalars are broadcast over the tokens."""
    shapes = [value.shape for value in node.inputs if value is not None]
    if not all(_is_states(value) for value in node.outputs) or any(
        shape is None or len(shape) == 2 for shape in shapes
    ):
        return []
    return [index for index, value in enumerate(node.inputs) if value is not None and _is_states(value)]


def _states_first(node: ir.Node) -> list[int]:
    """Return the first input if it holds hidden states; the others are weights."""
    states = node.inputs[0]
    return [0] if states is not None and _is_states(states) else []


def _normalized(node: ir.Node) -> list[int]:
    return _states_first(node) if node.attributes.get_int("axis", -1) in (-1, 2) else []


def _queries(node: ir.Node) -> list[int]:
    """Return the query, unless the attention has a bias, which is laid out by token."""
    biased = len(node.inputs) > ATTENTION_BIAS and node.inputs[ATTENTION_BIAS] is not None
    return [] if biased else _states_first(node)


def _no_inputs(_: ir.Node) -> list[int]:
    return []


OPERATORS: dict[str, Callable[[ir.Node], list[int]]] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Gelu", "Relu", "Tanh", "Sigmoid", "Identity"), _elementwise
    ),
    "LayerNormalization": _normalized,
    "RMSNormalization": _normalized,
    "MatMul": _states_first,
    "MultiHeadAttention": _queries,
}
"""Functions by operator, which return the indices of inputs needed for the same tokens as the output."""


def _is_states(value: ir.Value) -> bool:
    """Return True if a value is laid out as (batch, sequence, width), with a dynamic number of tokens."""
    return value.shape is not None and len(value.shape) == 3 and not isinstance(value.shape[SEQUENCE], int)


def _first(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Insert a node that selects the first token of hidden states; return its output (batch, 1, width)."""
    index = constant(graph, f"{value.name}.first.index", np.array([0], np.int64))
    node = ir.node("Gather", [value, index], {"axis": SEQUENCE}, name=f"{value.name}.first")
    (first,) = node.outputs
    first.name, first.type, first.shape = f"{value.name}.first", value.type, _of_one_token(value)
    insert_after_producer(graph, value, node)
    return first


def _of_one_token(value: ir.Value) -> ir.Shape:
    assert value.shape is not None
    return ir.Shape([1 if axis == SEQUENCE else dim for axis, dim in enumerate(value.shape)])

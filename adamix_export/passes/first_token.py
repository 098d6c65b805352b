"""Compute for the first token alone what is read of it alone.

A head that reads one token of each row needs the last layer's query, the output of its attention, its feed-forward and
norms for that token only, and keys and values for all: of six layers the matrix products of nearly one. Nothing changes
in what the graph gives.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, known

SEQUENCE = 1
"""The axis of the tokens in states (batch, sequence, width)."""
QUERY, ATTENTION_BIAS = 0, 5
"""Inputs of `MultiHeadAttention`."""


def narrow_to_first_token(model: ir.Model) -> None:
    """Cut the states down to the first token wherever no other one is needed."""
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
    """Return the nodes of whose outputs only the first token is read."""
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
    """Whether a node is `states[:, 0]`."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != SEQUENCE:
        return False
    states, index = node.inputs
    chosen = known(index)
    return states is not None and _is_states(states) and chosen is not None and chosen.ndim == 0 and chosen == 0


def _token_inputs(node: ir.Node) -> list[int]:
    """Return the inputs of which a node needs no more tokens than are asked of it; none if it mixes tokens."""
    return OPERATORS.get(node.op_type, _no_inputs)(node)


def _each_alone(node: ir.Node) -> list[int]:
    """Return the states among the inputs; what is as wide as a row or a number is the same for every token."""
    shapes = [value.shape for value in node.inputs if value is not None]
    if not all(_is_states(value) for value in node.outputs) or any(
        shape is None or len(shape) == 2 for shape in shapes
    ):
        return []
    return [index for index, value in enumerate(node.inputs) if value is not None and _is_states(value)]


def _states_first(node: ir.Node) -> list[int]:
    """Return the first input, which holds the states; the others hold weights."""
    states = node.inputs[0]
    return [0] if states is not None and _is_states(states) else []


def _normalised(node: ir.Node) -> list[int]:
    return _states_first(node) if node.attributes.get_int("axis", -1) in (-1, 2) else []


def _queries(node: ir.Node) -> list[int]:
    """Return the query, unless scores are added that are laid out by token."""
    biased = len(node.inputs) > ATTENTION_BIAS and node.inputs[ATTENTION_BIAS] is not None
    return [] if biased else _states_first(node)


def _no_inputs(_: ir.Node) -> list[int]:
    return []


OPERATORS: dict[str, Callable[[ir.Node], list[int]]] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Gelu", "Relu", "Tanh", "Sigmoid", "Identity"), _each_alone
    ),
    "LayerNormalization": _normalised,
    "RMSNormalization": _normalised,
    "MatMul": _states_first,
    "MultiHeadAttention": _queries,
}
"""By operator: which of a node's inputs are states, of which it needs only the tokens that are asked of it."""


def _is_states(value: ir.Value) -> bool:
    """Whether a value is laid out as (batch, sequence, width), with any number of tokens."""
    return value.shape is not None and len(value.shape) == 3 and not isinstance(value.shape[SEQUENCE], int)


def _first(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return the first token of states, as (batch, 1, width)."""
    index = constant(graph, f"{value.name}.first.index", np.array([0], np.int64))
    node = ir.node("Gather", [value, index], {"axis": SEQUENCE}, name=f"{value.name}.first")
    (first,) = node.outputs
    first.name, first.type, first.shape = f"{value.name}.first", value.type, _of_one_token(value)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return first


def _of_one_token(value: ir.Value) -> ir.Shape:
    assert value.shape is not None
    return ir.Shape([1 if axis == SEQUENCE else dim for axis, dim in enumerate(value.shape)])

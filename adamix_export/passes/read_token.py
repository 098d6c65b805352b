"""Remove computation for tokens whose states are not used.

A classification head reads one token of each sequence: the first, or in a decoder the last. The last layer then needs
its queries, attention output, feed-forward and norms for that token only, but keys and values for all tokens. In a
model of six layers this saves the matrix products of nearly one layer. The graph's outputs do not change.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, insert_after_producer, known

SEQUENCE = 1
"""Axis of the tokens in hidden states (batch, sequence, width)."""
QUERY, MASK, ATTENTION_BIAS = 0, 4, 5
"""Indices of inputs of `MultiHeadAttention`."""
CAUSAL = "unidirectional"
"""Attribute of `MultiHeadAttention` whose tokens see earlier ones alone."""


def narrow_to_read_token(model: ir.Model) -> None:
    """Slice hidden states to the token that the head reads wherever no other token is used."""
    graph = model.graph
    position = next((node.inputs[1] for node in graph if _takes_last_token(node)), None)
    narrow = _narrow_nodes(graph, position)
    cut: dict[ir.Value, ir.Value] = {}
    for node in [node for node in graph if node in narrow]:
        for index in _token_inputs(node):
            value = node.inputs[index]
            assert value is not None
            if value.producer() not in narrow:
                node.replace_input_with(index, cut.get(value) or cut.setdefault(value, _one(graph, value, position)))
        for output in node.outputs:
            output.shape = _of_one_token(output)
    if position is not None:
        _make_last(graph, narrow)


def _narrow_nodes(graph: ir.Graph, position: ir.Value | None) -> set[ir.Node | None]:
    """Return the nodes whose outputs are used for the token at `position` (None is the first) only."""
    whole = set(graph.outputs)
    read: set[ir.Value] = set()
    narrow: set[ir.Node | None] = set()
    for node in reversed(graph):
        tokens: list[int] = []
        if _takes_first_token(node) if position is None else _takes_last_token(node) and node.inputs[1] is position:
            tokens = [0]
        elif read.issuperset(node.outputs) and whole.isdisjoint(node.outputs) and (position or not _is_causal(node)):
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


def _takes_last_token(node: ir.Node) -> bool:
    """Return True if a node selects one token of each sequence by an index (batch, 1)."""
    if node.op_type != "GatherND" or node.attributes.get_int("batch_dims", 0) != 1:
        return False
    states, index = node.inputs
    return states is not None and _is_states(states) and index is not None and index.shape is not None


def _make_last(graph: ir.Graph, narrow: set[ir.Node | None]) -> None:
    """Let heads read the only token that is left, and attention see the tokens up to it.

    Attention of one token takes the mask of the tokens that it may see. Causal attention of all tokens needs none, as
    padding is on the right of every token that is read.
    """
    for node in list(graph):
        states = node.inputs[0] if node.inputs else None
        if _is_causal(node):
            if node in narrow:
                del node.attributes[CAUSAL]
            else:
                node.replace_input_with(MASK, None)
        elif node.op_type == "GatherND" and states is not None and states.producer() in narrow:
            only = ir.node(
                "Gather",
                [states, constant(graph, f"{node.name}.only", np.array(0, np.int64))],
                {"axis": SEQUENCE},
                name=f"{node.name}.only",
            )
            new, old = only.outputs[0], node.outputs[0]
            name, new.type, new.shape = old.name, old.type, old.shape
            graph.insert_after(node, only)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            graph.remove(node, safe=True)
            new.name = name
    graph.sort()


def _is_causal(node: ir.Node) -> bool:
    return node.op_type == "MultiHeadAttention" and node.attributes.get_int(CAUSAL, 0) == 1


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
    "SimplifiedLayerNormalization": _normalized,
    "MatMul": _states_first,
    "MultiHeadAttention": _queries,
}
"""Functions by operator, which return the indices of inputs needed for the same tokens as the output."""


def _is_states(value: ir.Value) -> bool:
    """Return True if a value is laid out as (batch, sequence, width), with a dynamic number of tokens."""
    return value.shape is not None and len(value.shape) == 3 and not isinstance(value.shape[SEQUENCE], int)


def _one(graph: ir.Graph, value: ir.Value, position: ir.Value | None) -> ir.Value:
    """Insert a node that selects the first token of hidden states or that at `position`; return (batch, 1, width)."""
    if position is None:
        index = constant(graph, f"{value.name}.first.index", np.array([0], np.int64))
        node = ir.node("Gather", [value, index], {"axis": SEQUENCE}, name=f"{value.name}.first")
    else:
        node = ir.node("GatherND", [value, _indices(graph, position)], {"batch_dims": 1}, name=f"{value.name}.last")
    (one,) = node.outputs
    one.name, one.type, one.shape = node.name, value.type, _of_one_token(value)
    insert_after_producer(graph, value, node)
    return one


def _indices(graph: ir.Graph, position: ir.Value) -> ir.Value:
    """Insert, once, the index (batch, 1, 1) of one token a sequence, of a position (batch, 1); return it."""
    name = f"{position.name}.indices"
    for node, _ in position.uses():
        if node.name == name:
            return node.outputs[0]
    axes = constant(graph, f"{name}.axes", np.array([2], np.int64))
    node = ir.node("Unsqueeze", [position, axes], name=name)
    (indices,) = node.outputs
    assert position.shape is not None
    indices.name, indices.type, indices.shape = name, position.type, ir.Shape([*position.shape, 1])
    insert_after_producer(graph, position, node)
    return indices


def _of_one_token(value: ir.Value) -> ir.Shape:
    assert value.shape is not None
    return ir.Shape([1 if axis == SEQUENCE else dim for axis, dim in enumerate(value.shape)])

"""Let attention compute the queries of all tokens where only that of the first one is read.

The inverse of what `read_token` does to queries: packed attention takes as many queries as keys. The first token is
selected behind the attention instead, so that everything after it is still computed for one token only.
"""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, known

SEQUENCE = 1
"""Axis of the tokens in hidden states (batch, sequence, width)."""
QUERY, KEY = 0, 1
"""Indices of inputs of `MultiHeadAttention`."""


def widen_queries(graph: ir.Graph) -> None:
    """Compute all queries of every `MultiHeadAttention` that has those of the first tokens, and select after it."""
    for node in [node for node in graph if node.op_type == "MultiHeadAttention"]:
        query, key = node.inputs[QUERY], node.inputs[KEY]
        if query is None or key is None or not _is_first(query) or _is_first(key):
            continue
        assert key.shape is not None
        node.replace_input_with(QUERY, _whole(graph, node, query, key.shape[SEQUENCE], {}))
        _select_first(graph, node.outputs[0], key.shape[SEQUENCE])


def first_token_index(node: ir.Node | None) -> ir.Value | None:
    """Return the index, 0 or [0], of a node that selects the first token of hidden states; None for other nodes."""
    if node is None or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != SEQUENCE:
        return None
    index = known(node.inputs[1])
    return node.inputs[1] if index is not None and index.size == 1 and index.ndim < 2 and not index.any() else None


def _is_first(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 3 and value.shape[SEQUENCE] == 1


def _whole(
    graph: ir.Graph, before: ir.Node, value: ir.Value, length: int | ir.SymbolicDim, seen: dict[ir.Value, ir.Value]
) -> ir.Value:
    """Return a value for all tokens: copies of the nodes between the selection of the first token and the value.

    A value that does not depend on that selection is returned as it is.
    """
    node = value.producer()
    if node is None:
        return value
    if first_token_index(node) is not None:
        assert node.inputs[0] is not None
        return node.inputs[0]
    if value not in seen:
        inputs = [one and _whole(graph, before, one, length, seen) for one in node.inputs]
        seen[value] = value if inputs == list(node.inputs) else _copy(graph, before, node, inputs, length)
    return seen[value]


def _copy(
    graph: ir.Graph, before: ir.Node, node: ir.Node, inputs: list[ir.Value | None], length: int | ir.SymbolicDim
) -> ir.Value:
    """Insert a copy of a node with other inputs, whose output has `length` tokens; return the output."""
    old = node.outputs[0]
    assert old.shape is not None
    copy = ir.node(node.op_type, inputs, {a.name: a.value for a in node.attributes.values()}, domain=node.domain)
    (new,) = copy.outputs
    copy.name, new.name, new.type = f"{node.name}.whole", f"{old.name}.whole", old.type
    new.shape = ir.Shape([length if axis == SEQUENCE else dim for axis, dim in enumerate(old.shape)])
    graph.insert_before(before, copy)
    return new


def _select_first(graph: ir.Graph, attended: ir.Value, length: int | ir.SymbolicDim) -> None:
    """Select the first token of an attention's output for every node that reads the output."""
    node, shape = attended.producer(), attended.shape
    assert node is not None and shape is not None
    index = constant(graph, f"{attended.name}.first.index", np.array([0], np.int64))
    selection = ir.node("Gather", [attended, index], {"axis": SEQUENCE}, name=f"{attended.name}.first")
    (first,) = selection.outputs
    first.name, first.type, first.shape = f"{attended.name}.first", attended.type, shape.copy()
    for user, position in tuple(attended.uses()):
        if user is not selection:
            user.replace_input_with(position, first)
    attended.shape = ir.Shape([length if axis == SEQUENCE else dim for axis, dim in enumerate(shape)])
    graph.insert_after(node, selection)

"""Inputs of a graph that a run may leave out: initializers of the same name are their defaults."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from serve.bundle.graph_io import LOGIT_OFFSETS, POSITIONS

TOKENS = 1
"""Axis of the tokens in hidden states (batch, tokens, width) and in logits (batch, tokens, vocabulary)."""


def set_default(graph: ir.Graph, name: str, value: NDArray[np.generic]) -> None:
    """Give an input a value for the runs that leave it out."""
    (given,) = (one for one in graph.inputs if one.name == name)
    given.const_value = ir.tensor(value, name=name)
    graph.initializers[name] = given


def keep_default(graph: ir.Graph, name: str) -> None:
    """Make an input with a default a constant; a graph without that input stays as it is."""
    for index, given in enumerate(graph.inputs):
        if given.name == name:
            del graph.inputs[index]
            return


def keep_last_position(graph: ir.Graph) -> None:
    """Let a decoder give the logits of each row's last token alone, whatever a run asks for."""
    keep_default(graph, LOGIT_OFFSETS)
    for node in graph:
        for value in node.outputs:
            if has_positions(value):
                assert value.shape is not None
                value.shape = ir.Shape([1 if axis == TOKENS else dim for axis, dim in enumerate(value.shape)])


def has_positions(value: ir.Value) -> bool:
    """Return True for a value (batch, positions, …) of the tokens whose logits are wanted."""
    shape = value.shape
    return shape is not None and len(shape) > TOKENS and str(shape[TOKENS]) == POSITIONS

"""Let a decoder give the logits of every token of a call rather than of each sequence's last one.

Other tools read them to score a text: onnxruntime-genai takes the token that it needs, and lm-eval all of them.
"""

import onnx_ir as ir

from adamix_export.errors import ExportError
from adamix_export.passes.default_inputs import TOKENS, has_positions, keep_default
from serve.bundle.graph_io import LOGIT_OFFSETS, LOGITS, SEQUENCE


def keep_all_tokens(graph: ir.Graph) -> None:
    """Make `logits` (batch, positions, vocabulary) of a decoder (batch, sequence, vocabulary).

    Raises:
        ExportError: The graph does not gather the last token's hidden state.
    """
    logits = next(value for value in graph.outputs if value.name == LOGITS)
    behind = _before(logits)
    gather = next((node for node in behind if _takes_a_token(node)), None)
    if gather is None:
        raise ExportError("the graph has no place at which the last token's hidden state is taken")
    states, last = gather.inputs[0], gather.outputs[0]
    assert states is not None
    last.replace_all_uses_with(states)
    for node in behind[: behind.index(gather)]:
        for value in node.outputs:
            if value.shape is not None and len(value.shape) == 3 and (value.shape[TOKENS] == 1 or has_positions(value)):
                value.shape = ir.Shape([SEQUENCE if axis == TOKENS else dim for axis, dim in enumerate(value.shape)])
    keep_default(graph, LOGIT_OFFSETS)


def _before(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that a value is computed by, the nearest first."""
    found: dict[ir.Node, None] = {}
    waiting = [value]
    while waiting:
        node = waiting.pop(0).producer()
        if node is not None and node not in found:
            found[node] = None
            waiting += [given for given in node.inputs if given is not None]
    return list(found)


def _takes_a_token(node: ir.Node) -> bool:
    return node.op_type == "GatherElements" and node.attributes.get_int("axis", 0) == TOKENS

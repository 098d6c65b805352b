"""Let a decoder find the likeliest tokens itself, so that a device need not send logits to the host."""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant
from serve.bundle.graph_io import BATCH, LOGITS, NEXT_LOGITS, NEXT_TOKENS


def add_likeliest_token(graph: ir.Graph) -> None:
    """Add the outputs `next_tokens` and `next_logits`, (batch, 1); a graph without `logits` stays as it is."""
    logits = next((value for value in graph.outputs if value.name == LOGITS), None)
    if logits is None:
        return
    last = constant(graph, f"{NEXT_TOKENS}_axis", np.array([-1], np.int64))
    index = ir.node("ArgMax", [logits], {"axis": -1, "keepdims": 1}, name=f"{NEXT_TOKENS}_index")
    largest = ir.node("GatherElements", [logits, index.outputs[0]], {"axis": -1}, name=f"{NEXT_LOGITS}_largest")
    tokens = ir.node("Squeeze", [index.outputs[0], last], name=NEXT_TOKENS)
    values = ir.node("Squeeze", [largest.outputs[0], last], name=NEXT_LOGITS)
    graph.extend([index, largest, tokens, values])
    number = ir.TensorType(ir.DataType.INT64)
    for node, kind in ((index, number), (largest, logits.type)):
        node.outputs[0].type, node.outputs[0].shape = kind, ir.Shape((BATCH, 1, 1))
    for node, name, kind in ((tokens, NEXT_TOKENS, number), (values, NEXT_LOGITS, logits.type)):
        (output,) = node.outputs
        output.name, output.type, output.shape = name, kind, ir.Shape((BATCH, 1))
        graph.outputs.append(output)

"""8-bit products whose states are quantised as they come, as `DynamicQuantizeMatMul` and `QAttention`.

Matrices are int8 with a scale for every column. States are uint8 with one scale and zero point for a whole batch, so
that a row's answer depends a little on the rows beside it; in return it is the fastest operator for many tokens. Seen
on 500 sentences of SST-2, alone and in batches: logits differ by 0.004 to 0.008 in the median and at most 0.03, and of
two adapters one has 10 labels that change, all near the border, and the other none. In fp32 nothing changes.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array, is_large, products
from adamix_export.passes.nodes import constant, replace

LARGEST = 127
SCORES = 5
"""What is added to the scores, among the inputs of `Attention`."""


def quantise_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Return a matrix (out, in) as int8 (in, out) and the scale of every column (out)."""
    scales = np.abs(weight).max(1) / np.float32(LARGEST)
    scales[scales == 0] = 1
    return np.ascontiguousarray(np.rint(weight / scales[:, None]).astype(np.int8).T), scales


def quantise_attention(graph: ir.Graph) -> None:
    """Replace attention with its projections inside by `QAttention`, where nothing is added to its scores."""
    quantised: dict[ir.Value, ir.Node] = {}
    for node in list(graph):
        if node.op_type != "Attention" or not is_large(node.inputs[1]) or any(node.inputs[SCORES:]):
            continue
        states, weight, bias, mask = node.inputs[:4]
        assert states is not None and weight is not None and weight.const_value is not None
        if states not in quantised:
            quantised[states] = ir.node("DynamicQuantizeLinear", [states], num_outputs=3, name=f"{node.name}.states")
            graph.insert_before(node, quantised[states])
        levels, scale, zero = quantised[states].outputs
        values, scales = quantise_columns(weight.const_value.numpy().T)
        inputs = [
            levels,
            constant(graph, f"{node.name}.weight", values),
            bias,
            scale,
            constant(graph, f"{node.name}.scale", scales),
            mask,
            zero,
            constant(graph, f"{node.name}.zero", np.zeros(len(scales), np.int8)),
        ]
        settings = {name: node.attributes[name].value for name in ("num_heads", "scale")}
        replace(graph, [node], "QAttention", inputs, **settings)


def quantise_products(graph: ir.Graph) -> None:
    """Replace the products of a graph."""
    for product in products(graph):
        values, scales = quantise_columns(product.weight)
        name = product.node.name
        inputs = [
            product.states,
            constant(graph, f"{name}.weight", values),
            constant(graph, f"{name}.scale", scales),
            constant(graph, f"{name}.zero", np.zeros(len(scales), np.int8)),
            product.bias,
        ]
        replace(graph, product.nodes, "DynamicQuantizeMatMul", inputs)

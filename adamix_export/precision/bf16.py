"""bf16: half the bytes with the range of fp32, for models that exceed fp16's.

Only CUDA has bf16 kernels. For the comparison with PyTorch, `emulate_bf16` makes a graph that rounds to bf16 where
these kernels do, and computes in fp32 between.
"""

import onnx_ir as ir

from adamix_export.precision.mixed_precision import BF16, FP32, insert_cast, lower_precision

BF16_OPERATORS = {
    "Add",
    "Attention",
    "Concat",
    "Div",
    "Expand",
    "Gather",
    "Gelu",
    "GroupQueryAttention",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "MultiHeadAttention",
    "Neg",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "SimplifiedLayerNormalization",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
}
"""Operators with a bf16 kernel in ONNX Runtime's CUDA provider (1.31.1); all others stay in fp32."""


def to_bf16(graph: ir.Graph) -> None:
    """Convert an fp32 graph to bf16, with casts between the two types."""
    lower_precision(graph, BF16, BF16_OPERATORS.__contains__)


def emulate_bf16(graph: ir.Graph) -> None:
    """Convert a bf16 graph to fp32, with every output of an operator rounded to bf16.

    Weights stay as they are stored. Caches are fp32, and what attention itself writes into them is not rounded.
    """
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype == BF16:
            value.dtype = FP32
    weights = [value for value in graph.initializers.values() if value.dtype == BF16]
    for node in list(graph):
        for output in node.outputs:
            if output.dtype == BF16:
                _round(graph, node, output)
    for weight in weights:
        _use_cast(graph, weight, weight)


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Let the users of an output read it in fp32, rounded to bf16."""
    rounded = output
    if node.op_type != "Cast":
        output.dtype = FP32
        rounded = insert_cast(graph, output, BF16)
    _use_cast(graph, output, rounded)


def _use_cast(graph: ir.Graph, value: ir.Value, rounded: ir.Value) -> None:
    """Let the users of a value read `rounded`, in fp32, in its place."""
    users = [use for use in value.uses() if rounded not in use.node.outputs]
    wide = insert_cast(graph, rounded, FP32)
    for use in users:
        use.node.replace_input_with(use.idx, wide)

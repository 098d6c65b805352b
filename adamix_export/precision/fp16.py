"""fp16: half the bytes, for GPUs; operators that overflow or lose too much stay in fp32."""

import onnx_ir as ir

from adamix_export.precision.mixed_precision import FP16, lower_precision

FP32_OPERATORS = {
    "Cast",
    "ConstantOfShape",
    "Exp",
    "Gemm",
    "Pow",
    "Range",
    "ReduceMean",
    "ReduceSum",
    "Sqrt",
    "Sin",
    "Cos",
}
"""Operators that stay in fp32: they exceed fp16's range or have a type attribute; Gemm is a classifier's head."""


def to_fp16(graph: ir.Graph) -> None:
    """Convert an fp32 graph to fp16, with casts between the two types."""
    lower_precision(graph, FP16, lambda operator: operator not in FP32_OPERATORS)

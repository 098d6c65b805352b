"""The share of a graph's matrices that are stored as integers."""

import math
from collections.abc import Sequence
from pathlib import Path

import onnx

MATRICES = {"GatherBlockQuantized": 0, "MatMulIntegerToFloat": 1, "MatMulNBits": 1, "QAttention": 1}
"""Operators that take a quantized matrix, and the index of that input."""
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
BYTE = 8


def quantized_share(files: Sequence[Path]) -> float:
    """Return the share of the values of all matrices in ONNX files that are stored as integers, in [0, 1]."""
    counts = [_counts(onnx.load(file, load_external_data=False).graph) for file in files]
    integers, all_ = (sum(column) for column in zip(*counts, strict=True))
    return integers / all_ if all_ else 0.0


def _counts(graph: onnx.GraphProto) -> tuple[int, int]:
    """Return the numbers of values in quantized matrices and in all."""
    sizes = {one.name: math.prod(one.dims) for one in graph.initializer}
    reshaped = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Reshape"}
    quantized: dict[str, int] = {}
    scales: set[str] = set()
    for node in graph.node:
        if node.op_type in MATRICES:
            index = MATRICES[node.op_type]
            name = reshaped.get(node.input[index], node.input[index])
            quantized[name] = sizes[name] * BYTE // _bits(node)
            scales.update(node.input[index + 1 :])
    floats = sum(
        math.prod(one.dims)
        for one in graph.initializer
        if one.data_type in FLOATS and len(one.dims) > 1 and one.name not in scales
    )
    integers = sum(quantized.values())
    return integers, integers + floats


def _bits(node: onnx.NodeProto) -> int:
    """Return the bits of each value."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "bits"), BYTE)

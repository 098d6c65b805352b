"""fp16: half the bytes, for GPUs.

Logits, products with a bank's adapters, and operators that overflow or lose too much stay in fp32. ONNX Runtime
computes norms and softmax in fp32 for either type of input. Caches are fp16, a bank's stacks fp32.
"""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, insert_after_producer
from serve.bundle.graph_io import BANK, PAST, PRESENT

FP32, FP16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
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
CARRIERS = {"Gather", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity"}
"""Operators whose output is still a weight if their input is one of a bank's weights."""
LARGEST = np.finfo(np.float16).max


def to_fp16(graph: ir.Graph) -> None:
    """Convert an fp32 graph to fp16, with casts between the two types."""
    fp32_nodes = _fp32_nodes(graph)
    converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for value in graph.inputs:
        if (value.name or "").startswith(PAST):
            value.dtype = FP16
    nodes = list(graph)
    for node in nodes:
        for output in node.outputs:
            if output.dtype == FP32 and node not in fp32_nodes:
                output.dtype = FP16
    for node in nodes:
        target = FP32 if node in fp32_nodes else FP16
        for index, given in enumerate(node.inputs):
            if given is None or given.dtype not in (FP32, FP16) or given.dtype == target or node.op_type == "Cast":
                continue
            if (given, target) not in converted:
                converted[given, target] = _converted(graph, given, target)
            node.replace_input_with(index, converted[given, target])
    for index, output in enumerate(graph.outputs):
        if output.dtype == FP16 and not (output.name or "").startswith(PRESENT):
            name, output.name = output.name, f"{output.name}_fp16"
            graph.outputs[index] = _converted(graph, output, FP32)
            graph.outputs[index].name = name


def _fp32_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that stay in fp32."""
    stacks = {value for value in graph.inputs if (value.name or "").startswith(BANK)}
    nodes = set()
    for node in graph:
        if node.op_type in FP32_OPERATORS or stacks & set(node.inputs):
            nodes.add(node)
        if node.op_type in CARRIERS and node.inputs[0] in stacks:
            stacks.update(node.outputs)
    return nodes


def _converted(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a value in another type: a rounded copy of an initializer, or else a cast after the value's producer."""
    if value.const_value is not None and value.is_initializer():
        array = np.clip(value.const_value.numpy(), -LARGEST, LARGEST).astype(np.float16)
        return constant(graph, f"{value.name}_fp16", array)
    cast = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}_to_{dtype.name.lower()}")
    (new,) = cast.outputs
    new.dtype, new.shape, new.name = dtype, value.shape, f"{value.name}_{dtype.name.lower()}"
    insert_after_producer(graph, value, cast)
    return new

"""Graphs in a type of 16 bits, with casts to fp32 around the operators that stay in it.

Logits and products with a bank's adapters stay in fp32. ONNX Runtime computes norms and softmax in fp32 for any type of
input. Caches have 16 bits, a bank's stacks 32.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant, insert_after_producer
from serve.bundle.graph_io import BANK, PAST, PRESENT

FP32, FP16, BF16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
LARGEST = {FP16: float(np.finfo(np.float16).max), BF16: (2 - 2**-7) * 2.0**127}
"""Largest finite number of each type of 16 bits."""
SUFFIXES = {FP32: "fp32", FP16: "fp16", BF16: "bf16"}
CARRIERS = {"Gather", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity"}
"""Operators whose output is still a weight if their input is one of a bank's weights."""


def lower_precision(graph: ir.Graph, dtype: ir.DataType, has_kernel: Callable[[str], bool]) -> None:
    """Convert the operators of an fp32 graph for which `has_kernel` is true, and everything that they read."""
    fp32_nodes = _fp32_nodes(graph, has_kernel)
    converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for value in graph.inputs:
        if (value.name or "").startswith(PAST):
            value.dtype = dtype
    nodes = list(graph)
    for node in nodes:
        for output in node.outputs:
            if output.dtype == FP32 and node not in fp32_nodes:
                output.dtype = dtype
    for node in nodes:
        target = FP32 if node in fp32_nodes else dtype
        for index, given in enumerate(node.inputs):
            if given is None or given.dtype not in (FP32, dtype) or given.dtype == target or node.op_type == "Cast":
                continue
            if (given, target) not in converted:
                converted[given, target] = _converted(graph, given, target)
            node.replace_input_with(index, converted[given, target])
    for index, output in enumerate(graph.outputs):
        if output.dtype == dtype and not (output.name or "").startswith(PRESENT):
            name, output.name = output.name, f"{output.name}_{SUFFIXES[dtype]}"
            graph.outputs[index] = _converted(graph, output, FP32)
            graph.outputs[index].name = name


def _fp32_nodes(graph: ir.Graph, has_kernel: Callable[[str], bool]) -> set[ir.Node]:
    """Return the nodes that stay in fp32."""
    stacks = {value for value in graph.inputs if (value.name or "").startswith(BANK)}
    nodes = set()
    for node in graph:
        if not has_kernel(node.op_type) or stacks & set(node.inputs):
            nodes.add(node)
        if node.op_type in CARRIERS and node.inputs[0] in stacks:
            stacks.update(node.outputs)
    return nodes


def _converted(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a value in another type: a rounded copy of an initializer, or else a cast after the value's producer."""
    if value.const_value is not None and value.is_initializer():
        largest = LARGEST[dtype]
        array = np.clip(value.const_value.numpy(), -largest, largest).astype(dtype.numpy())
        return constant(graph, f"{value.name}_{SUFFIXES[dtype]}", array)
    return insert_cast(graph, value, dtype)


def insert_cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a value in another type, from a cast behind the value's producer."""
    cast = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}_to_{dtype.name.lower()}")
    (new,) = cast.outputs
    new.dtype, new.shape, new.name = dtype, value.shape, f"{value.name}_{dtype.name.lower()}"
    insert_after_producer(graph, value, cast)
    return new

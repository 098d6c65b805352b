"""fp16: half the bytes, and the arithmetic that GPUs are made for.

The logits, the products with adapters that are fed, and operators that overflow or lose too much stay in fp32. Norms
and softmax are computed in fp32 by ONNX Runtime whatever their edges are. Caches are fp16, a bank's stacks fp32.
"""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant
from serve.bundle.graph_io import BANK

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
FULL = {"Cast", "ConstantOfShape", "Exp", "Gemm", "Pow", "Range", "ReduceMean", "ReduceSum", "Sqrt", "Sin", "Cos"}
"""Operators that stay in fp32: they leave fp16's range, or their type is an attribute; Gemm is a classifier's head."""
CARRIERS = {"Gather", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity"}
"""Operators that hand a weight on: one that was fed is a weight behind them, too."""
CACHE = "past_key_values."
STATE = "present."
LARGEST = np.finfo(np.float16).max


def to_half(graph: ir.Graph) -> None:
    """Turn a graph that is all fp32 into fp16, with casts where one meets the other."""
    full = _full(graph)
    wanted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for fed in graph.inputs:
        if (fed.name or "").startswith(CACHE):
            fed.dtype = HALF
    nodes = list(graph)
    for node in nodes:
        for output in node.outputs:
            if output.dtype == FLOAT and node not in full:
                output.dtype = HALF
    for node in nodes:
        target = FLOAT if node in full else HALF
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype not in (FLOAT, HALF) or value.dtype == target or node.op_type == "Cast":
                continue
            if (value, target) not in wanted:
                wanted[value, target] = _as(graph, value, target)
            node.replace_input_with(index, wanted[value, target])
    for index, output in enumerate(graph.outputs):
        if output.dtype == HALF and not (output.name or "").startswith(STATE):
            name, output.name = output.name, f"{output.name}_half"
            graph.outputs[index] = _as(graph, output, FLOAT)
            graph.outputs[index].name = name


def _full(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that stay in fp32."""
    fed = {value for value in graph.inputs if (value.name or "").startswith(BANK)}
    full = set()
    for node in graph:
        if node.op_type in FULL or fed & set(node.inputs):
            full.add(node)
        if node.op_type in CARRIERS and node.inputs[0] in fed:
            fed.update(node.outputs)
    return full


def _as(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a value in another type: an initializer rounded, anything else cast behind the node that it comes from."""
    if value.const_value is not None and value.is_initializer():
        array = np.clip(value.const_value.numpy(), -LARGEST, LARGEST).astype(np.float16)
        return constant(graph, f"{value.name}_half", array)
    cast = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}_to_{dtype.name.lower()}")
    (new,) = cast.outputs
    new.dtype, new.shape, new.name = dtype, value.shape, f"{value.name}_{dtype.name.lower()}"
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return new

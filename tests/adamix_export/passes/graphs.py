"""Small graphs to apply passes to."""

import numpy as np
import onnx_ir as ir

STATES = ("batch", "sequence", 4)


def value(name: str, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def matrix(name: str, *shape: int) -> ir.Value:
    made = value(name, *shape)
    made.const_value = ir.tensor(np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name=name)
    return made


def made(*inputs: ir.Value | None, op_type: str, shape: tuple[int | str, ...], **attributes: int) -> ir.Node:
    domain = "com.microsoft" if op_type == "MultiHeadAttention" else ""
    node = ir.node(op_type, inputs, attributes, domain=domain)
    node.outputs[0].shape, node.outputs[0].type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return node


def model_of(inputs: list[ir.Value], outputs: list[ir.Value], *nodes: ir.Node) -> ir.Model:
    constants = {held for node in nodes for held in node.inputs if held is not None and held.const_value is not None}
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=list(constants), opset_imports={"": 21})
    return ir.Model(graph, ir_version=10)

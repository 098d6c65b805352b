"""Attention with its projections fused into it."""

import onnx_ir as ir
import pytest

from adamix_export.passes.fuse_qkv_attention import fuse_qkv_attention
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


def attention(*, biases: int, states: int = 1) -> ir.Model:
    """Attention over three projections, of which some have a bias, of one or of several states."""
    inputs = [value(f"x{index}", *STATES) for index in range(states)]
    nodes: list[ir.Node] = []
    projected = []
    for index, name in enumerate(("query", "key", "value")):
        node = made(inputs[index % states], matrix(name, 4, 4), op_type="MatMul", shape=STATES)
        nodes.append(node)
        if index < biases:
            node = made(node.outputs[0], matrix(f"{name}.bias", 4), op_type="Add", shape=STATES)
            nodes.append(node)
        projected.append(node.outputs[0])
    attended = ir.node("MultiHeadAttention", projected, {"num_heads": 2, "scale": 0.5}, domain="com.microsoft")
    attended.outputs[0].shape, attended.outputs[0].type = ir.Shape(STATES), ir.TensorType(ir.DataType.FLOAT)
    return model_of(inputs, [attended.outputs[0]], *nodes, attended)


@pytest.mark.parametrize(
    ("model", "packed"),
    [
        (attention(biases=3), True),
        (attention(biases=0), True),
        (attention(biases=2), False),
        (attention(biases=3, states=2), False),
    ],
    ids=["biases", "no biases", "two biases", "two states"],
)
def test_projections_are_packed_where_they_are_alike(model: ir.Model, packed: bool) -> None:
    fuse_qkv_attention(model)
    (attended,) = [node for node in model.graph if node.op_type.endswith("Attention")]
    assert attended.op_type == ("Attention" if packed else "MultiHeadAttention")
    if packed:
        assert model.graph.outputs[0] is attended.outputs[0]
        weight = attended.inputs[1]
        assert weight is not None
        assert weight.shape == ir.Shape([4, 12])

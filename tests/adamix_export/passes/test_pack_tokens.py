"""Encoders without padding: packed graphs, run by a reference of their operators, give what the padded ones give."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from adamix_export.errors import ExportError
from adamix_export.passes.fuse_qkv_attention import fuse_qkv_attention
from adamix_export.passes.nodes import DOMAIN
from adamix_export.passes.pack_tokens import pack_tokens
from adamix_export.passes.read_token import narrow_to_read_token
from adamix_export.precision.fp16 import to_fp16
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value
from tests.adamix_export.passes.packed_operators import run_packed

LENGTHS = np.array([3, 6, 1, 4])
WIDTH = 4
Change = Callable[[list[ir.Node]], None]


def norm(states: ir.Value, name: str) -> ir.Node:
    return made(
        states, matrix(f"{name}.weight", WIDTH), matrix(name, WIDTH), op_type="LayerNormalization", shape=STATES
    )


def attention(*inputs: ir.Value | None) -> ir.Node:
    node = made(*inputs, op_type="MultiHeadAttention", shape=STATES, num_heads=2)
    node.attributes["scale"] = ir.AttrFloat32("scale", 0.7)
    return node


def mask_input(name: str = "mask") -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(["batch", "sequence"]), type=ir.TensorType(ir.DataType.INT32))


def layer(states: ir.Value, mask: ir.Value | None, number: int) -> list[ir.Node]:
    """Attention with its projections, a residual and a norm; the last node's output is the layer's."""
    nodes: list[ir.Node] = []
    for part in ("q", "kk", "vvv"):
        product = made(states, matrix(f"{number}.{part}", WIDTH, WIDTH), op_type="MatMul", shape=STATES)
        bias = matrix(f"{number}.{part}.bias", WIDTH)
        nodes += [product, made(product.outputs[0], bias, op_type="Add", shape=STATES)]
    nodes.append(attention(*(nodes[index].outputs[0] for index in (1, 3, 5)), None, mask))
    nodes.append(made(nodes[-1].outputs[0], states, op_type="Add", shape=STATES))
    nodes.append(norm(nodes[-1].outputs[0], f"{number}.norm"))
    return nodes


def adapter(states: ir.Value) -> tuple[list[ir.Value], list[ir.Node]]:
    """A bottleneck with matrices and a bias by sequence, added to the states."""
    down, up = value("bank.down", "batch", WIDTH, 2), value("bank.up", "batch", 2, WIDTH)
    bias = value("bank.bias", "batch", 1, 2)
    narrow = ("batch", "sequence", 2)
    nodes = [made(states, down, op_type="MatMul", shape=narrow)]
    nodes.append(made(nodes[-1].outputs[0], bias, op_type="Add", shape=narrow))
    nodes.append(made(nodes[-1].outputs[0], op_type="Relu", shape=narrow))
    nodes.append(made(nodes[-1].outputs[0], up, op_type="MatMul", shape=STATES))
    nodes.append(made(states, nodes[-1].outputs[0], op_type="Add", shape=STATES))
    return [down, bias, up], nodes


def first(states: ir.Value) -> ir.Node:
    index = ir.Value(name="index", const_value=ir.tensor(np.array(0, np.int64), name="index"), shape=ir.Shape([]))
    index.type = ir.TensorType(ir.DataType.INT64)
    return made(states, index, op_type="Gather", shape=("batch", WIDTH), axis=1)


def encoder(*, adapted: bool = False) -> ir.Model:
    """A norm for embeddings, two layers, an adapter between them if `adapted`, and the first token's states."""
    x, mask = value("x", *STATES), mask_input()
    inputs, nodes = [x, mask], [norm(x, "embeddings")]
    nodes += layer(nodes[-1].outputs[0], mask, 1)
    if adapted:
        stacks, more = adapter(nodes[-1].outputs[0])
        inputs, nodes = [*inputs, *stacks], [*nodes, *more]
    nodes += layer(nodes[-1].outputs[0], mask, 2)
    nodes.append(first(nodes[-1].outputs[0]))
    return finished(inputs, nodes)


def finished(inputs: list[ir.Value], nodes: list[ir.Node]) -> ir.Model:
    nodes[-1].outputs[0].name = "y"
    model = model_of(inputs, [nodes[-1].outputs[0]], *nodes)
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    model.graph.opset_imports[DOMAIN] = 1
    return model


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    generator, longest = np.random.default_rng(0), LENGTHS.max()
    sizes = {"batch": len(LENGTHS), "sequence": longest}
    made = {
        one.name: generator.normal(size=[sizes.get(str(dim), dim) for dim in one.shape]).astype(np.float32)
        for one in model.graph.inputs
    }
    return {**made, "mask": (np.arange(longest) < LENGTHS[:, None]).astype(np.int32)}


def run(model: ir.Model) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    (y,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds(model))
    return y


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize("adapted", [False, True], ids=["merged", "bank"])
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("narrow", [False, True], ids=["whole", "narrow"])
def test_a_packed_graph_computes_what_the_padded_one_does(adapted: bool, fused: bool, narrow: bool) -> None:
    model = encoder(adapted=adapted)
    if narrow:
        narrow_to_read_token(model)
    if fused:
        fuse_qkv_attention(model)
    expected = run(model)
    pack_tokens(model.graph)
    np.testing.assert_allclose(run_packed(ir.to_proto(model), feeds(model)), expected, atol=2e-6)
    found = operators(model)
    packed = found["PackedAttention"] + found["PackedMultiHeadAttention"]
    assert (found["RemovePadding"], packed, found["MultiHeadAttention"], found["Attention"]) == (1, 2, 0, 0)
    assert found["RestorePadding"] == int(adapted)


@pytest.mark.parametrize("adapted", [False, True], ids=["merged", "bank"])
def test_an_fp16_graph_is_packed_in_fp16(adapted: bool) -> None:
    """The padding of a bank comes back in fp16 too, before the states are cast for its products in fp32."""
    model = encoder(adapted=adapted)
    narrow_to_read_token(model)
    fuse_qkv_attention(model)
    to_fp16(model.graph)
    expected = run(model)
    pack_tokens(model.graph)
    np.testing.assert_allclose(run_packed(ir.to_proto(model), feeds(model)), expected, atol=0.01)
    padding = [node.outputs[0].dtype for node in model.graph if node.op_type in ("RemovePadding", "RestorePadding")]
    assert padding == [ir.DataType.FLOAT16] * (1 + adapted)


@pytest.mark.parametrize("adapted", [False, True], ids=["merged", "bank"])
def test_onnxruntime_takes_types_and_shapes_and_lacks_the_kernels_alone(adapted: bool) -> None:
    model = encoder(adapted=adapted)
    pack_tokens(model.graph)
    with pytest.raises(NoKernel, match=r"Could not find an implementation for RemovePadding\(1\)"):
        ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def test_inputs_and_outputs_of_onnxruntimes_operators_fit_their_schemas() -> None:
    model = encoder(adapted=True)
    narrow_to_read_token(model)
    fuse_qkv_attention(model)
    pack_tokens(model.graph)
    schemas = {schema.name: schema for schema in get_all_operator_schema() if schema.domain == DOMAIN}
    checked = Counter(check_schema(node, schemas[node.op_type]) for node in model.graph if node.domain == DOMAIN)
    assert checked == {
        "RemovePadding": 1,
        "RestorePadding": 1,
        "PackedAttention": 1,
        "PackedMultiHeadAttention": 1,
    }


def check_schema(node: ir.Node, schema: object) -> str:
    """Compare the number of inputs and outputs, their types and the attributes with a schema of ONNX Runtime."""
    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    assert schema.min_input <= len(node.inputs) <= schema.max_input
    assert len(node.outputs) == len(schema.outputs), "the kernels write every output"
    assert set(node.attributes) <= set(schema.attributes)
    types: dict[str, str] = {}
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for one, formal in zip(values, formals, strict=False):
            if one is None:
                assert formal.option.name == "Optional"
                continue
            name = onnx.TensorProto.DataType.Name(one.dtype)
            assert f"tensor({name.lower()})" in allowed[formal.typeStr]
            assert types.setdefault(formal.typeStr, name) == name
    return node.op_type


def with_scores(nodes: list[ir.Node]) -> None:
    bias = value("scores", 1, 2, "sequence", "sequence")
    attended = next(node for node in nodes if node.op_type == "MultiHeadAttention")
    attended.resize_inputs(6)
    attended.replace_input_with(5, bias)


def with_another_mask(nodes: list[ir.Node]) -> None:
    next(node for node in nodes if node.op_type == "MultiHeadAttention").replace_input_with(4, mask_input("other"))


def without_a_mask(nodes: list[ir.Node]) -> None:
    for node in nodes:
        if node.op_type == "MultiHeadAttention":
            node.replace_input_with(4, None)


def with_positions(nodes: list[ir.Node]) -> None:
    nodes[-2].op_type = "Add"
    nodes[-2].resize_inputs(2)
    nodes[-2].replace_input_with(1, value("positions", 1, "sequence", WIDTH))


def with_a_mean(nodes: list[ir.Node]) -> None:
    nodes[-1].op_type = "ReduceMean"


def without_a_norm(nodes: list[ir.Node]) -> None:
    nodes[0].op_type = "Relu"
    nodes[0].resize_inputs(1)


def without_attention(nodes: list[ir.Node]) -> None:
    for node in nodes:
        if node.op_type == "MultiHeadAttention":
            node.op_type, node.domain = "Add", ""
            node.resize_inputs(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_scores, "its attention adds a bias to the scores"),
        (with_another_mask, "its layers do not share one attention mask"),
        (without_a_mask, "its layers do not share one attention mask"),
        (with_positions, r"Add combines tokens with a value of shape \[1,sequence,4\]"),
        (with_a_mean, "ReduceMean may mix tokens"),
        (without_a_norm, "its embeddings do not end in a norm"),
        (without_attention, "its attention is not an operator of ONNX Runtime"),
    ],
)
def test_a_graph_that_cannot_be_packed_is_refused_with_the_reason(change: Change, message: str) -> None:
    model = encoder()
    change(list(model.graph))
    with pytest.raises(
        ExportError, match=f"this model's graph cannot be packed: {message}.*export it without --packed"
    ):
        pack_tokens(model.graph)


def test_a_graph_that_returns_every_tokens_states_is_refused() -> None:
    x, mask = value("x", *STATES), mask_input()
    nodes = [norm(x, "embeddings")]
    nodes += layer(nodes[-1].outputs[0], mask, 1)
    with pytest.raises(ExportError, match="one of its outputs has a value for each token"):
        pack_tokens(finished([x, mask], nodes).graph)

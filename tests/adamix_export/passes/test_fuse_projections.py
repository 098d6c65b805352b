"""Products of the same states side by side: the graph gives what it gave."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from adamix_export.passes.fuse_projections import fuse_projections

RNG = np.random.default_rng(0)
WIDTH = 4
STATES = ir.Shape(["batch", "sequence", WIDTH])
FLOAT = ir.TensorType(ir.DataType.FLOAT)


def made(*inputs: ir.Value | None, op_type: str, width: int = WIDTH, domain: str = "") -> ir.Value:
    node = ir.node(op_type, inputs, domain=domain)
    (value,) = node.outputs
    value.type, value.shape = FLOAT, ir.Shape([*STATES[:-1], width])
    return value


def weight(name: str, *shape: int) -> ir.Value:
    tensor = ir.tensor(RNG.normal(size=shape).astype(np.float32), name=name)
    return ir.Value(name=name, const_value=tensor, type=FLOAT, shape=ir.Shape(shape))


def model_of(x: ir.Value, *outputs: ir.Value) -> ir.Model:
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []

    def visit(value: ir.Value | None) -> None:
        node = value.producer() if value is not None else None
        if value is not None and node is None and value.const_value is not None and value not in weights:
            weights.append(value)
        if node is None or node in nodes:
            return
        for before in node.inputs:
            visit(before)
        nodes.append(node)

    for index, output in enumerate(outputs):
        visit(output)
        output.name = f"y{index}"
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=weights, opset_imports={"": 21, "com.microsoft": 1})
    return ir.Model(graph, ir_version=10)


def states() -> ir.Value:
    return ir.Value(name="x", type=FLOAT, shape=STATES)


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


@pytest.mark.parametrize("biased", [False, True])
def test_three_products_become_one_and_give_the_same(biased: bool) -> None:
    x = states()
    widths = (6, 2, 2)
    outputs = []
    for index, width in enumerate(widths):
        y = made(x, weight(f"w{index}", WIDTH, width), op_type="MatMul", width=width)
        outputs.append(made(y, weight(f"b{index}", width), op_type="Add", width=width) if biased else y)
    model = model_of(x, *outputs)
    values = RNG.normal(size=(3, 5, WIDTH)).astype(np.float32)
    expected = run(model, values)
    fuse_projections(model)
    assert ops(model) == {"MatMul": 1, "Split": 1, **({"Add": 1} if biased else {})}
    for one, other in zip(expected, run(model, values), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_products_of_other_states_stay_apart() -> None:
    x = states()
    first = made(x, weight("w0", WIDTH, WIDTH), op_type="MatMul")
    second = made(first, weight("w1", WIDTH, WIDTH), op_type="MatMul")
    fed = made(x, made(second, op_type="Relu"), op_type="Mul")
    model = model_of(x, second, fed)
    before = ops(model)
    fuse_projections(model)
    assert ops(model) == before


@pytest.mark.parametrize("adapted", [False, True])
def test_attention_takes_the_product_whole_unless_something_is_added_to_a_part(adapted: bool) -> None:
    x = states()
    query, key, value = (made(x, weight(f"w{index}", WIDTH, WIDTH), op_type="MatMul") for index in range(3))
    if adapted:
        value = made(value, x, op_type="Add")
    attended = made(query, key, value, op_type="GroupQueryAttention", domain="com.microsoft")
    model = model_of(x, attended)
    fuse_projections(model)
    node = attended.producer()
    assert node is not None
    absent = [index for index, given in enumerate(node.inputs[:3]) if given is None]
    assert absent == ([] if adapted else [1, 2])
    assert ops(model)["MatMul"] == 1

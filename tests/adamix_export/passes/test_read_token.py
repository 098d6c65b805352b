"""Hidden states sliced to the token that a head reads."""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.read_token import narrow_to_read_token
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


def first_of(states: ir.Value) -> ir.Node:
    index = ir.Value(name="index", const_value=ir.tensor(np.array(0, np.int64), name="index"), shape=ir.Shape([]))
    return made(states, index, op_type="Gather", shape=("batch", 4), axis=1)


def test_states_that_someone_reads_whole_stay_whole() -> None:
    x = value("x", *STATES)
    product = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    first = first_of(product.outputs[0])
    model = model_of([x], [first.outputs[0], product.outputs[0]], product, first)
    narrow_to_read_token(model)
    assert product.inputs[0] is x


def test_states_that_are_read_in_two_places_are_cut_once() -> None:
    x = value("x", *STATES)
    product = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    total = made(product.outputs[0], x, op_type="Add", shape=STATES)
    first = first_of(total.outputs[0])
    model = model_of([x], [first.outputs[0]], product, total, first)
    narrow_to_read_token(model)
    (cut,) = [node for node in model.graph if node.op_type == "Gather" and node is not first]
    assert product.inputs[0] is cut.outputs[0]
    assert total.inputs[1] is cut.outputs[0]


def test_an_operator_that_mixes_tokens_gets_all_of_them() -> None:
    x = value("x", *STATES)
    mixed = made(x, op_type="CumSum", shape=STATES)
    product = made(mixed.outputs[0], matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    first = first_of(product.outputs[0])
    model = model_of([x], [first.outputs[0]], mixed, product, first)
    narrow_to_read_token(model)
    assert mixed.inputs[0] is x
    assert product.inputs[0] is not mixed.outputs[0]


def last_of(states: ir.Value, position: ir.Value) -> ir.Node:
    return made(states, position, op_type="GatherND", shape=("batch", 4), batch_dims=1)


def causal(position: ir.Value, x: ir.Value, *, bias: ir.Value | None = None) -> tuple[ir.Node, ir.Node, ir.Model]:
    """Two layers of causal attention with a mask, of which a token at a position is read; and the second layer."""
    mask = ir.Value(name="mask", shape=ir.Shape(("batch", "sequence")), type=ir.TensorType(ir.DataType.INT32))
    options = {"op_type": "MultiHeadAttention", "shape": STATES, "num_heads": 2, "unidirectional": 1}
    one = made(x, x, x, None, mask, bias, **options)
    (states,) = one.outputs
    other = made(states, states, states, None, mask, bias, **options)
    end = last_of(other.outputs[0], position)
    return one, other, model_of([x, position, mask], [end.outputs[0]], one, other, end)


def at(name: str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(("batch", 1)), type=ir.TensorType(ir.DataType.INT64))


def test_attention_of_the_last_token_sees_all_up_to_it_and_causal_attention_needs_no_mask() -> None:
    one, other, model = causal(at("position"), value("x", *STATES))
    narrow_to_read_token(model)
    assert (one.attributes["unidirectional"].value, one.inputs[4]) == (1, None)
    assert "unidirectional" not in other.attributes
    assert other.inputs[4] is not None
    assert [str(dim) for dim in other.inputs[0].shape] == ["batch", "1", "4"]
    assert [node.op_type for node in model.graph][-1] == "Gather", "the head reads the only token"


def test_causal_attention_with_a_bias_keeps_all_queries() -> None:
    _, other, model = causal(at("position"), value("x", *STATES), bias=value("bias", 1, 2, "sequence", "sequence"))
    narrow_to_read_token(model)
    assert other.attributes["unidirectional"].value == 1
    assert [node.op_type for node in model.graph][-1] == "GatherND"


def test_the_first_token_of_causal_attention_sees_itself_alone() -> None:
    """One query and all keys would let it see all of them."""
    x = value("x", *STATES)
    attention = made(x, x, x, op_type="MultiHeadAttention", shape=STATES, num_heads=2, unidirectional=1)
    first = first_of(attention.outputs[0])
    model = model_of([x], [first.outputs[0]], attention, first)
    narrow_to_read_token(model)
    assert list(attention.inputs) == [x, x, x]

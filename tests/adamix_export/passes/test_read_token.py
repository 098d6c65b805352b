"""Hidden states sliced to the first token."""

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

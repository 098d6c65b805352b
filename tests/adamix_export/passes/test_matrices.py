import numpy as np
import onnx_ir as ir
import pytest

from adamix_export.passes.matrices import SMALLEST, embeddings, is_large, products, table
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


def constant(node_input: ir.Value | None) -> np.ndarray:
    assert node_input is not None and node_input.const_value is not None
    return node_input.const_value.numpy()


def test_a_weight_is_out_by_in_however_the_graph_holds_it() -> None:
    x, stored, turned = value("x", *STATES), matrix("stored", 4, 3), matrix("turned", 3, 4)
    plain = made(x, stored, op_type="MatMul", shape=(*STATES[:2], 3))
    transpose = made(turned, op_type="Transpose", shape=(4, 3))
    through = made(x, transpose.outputs[0], op_type="MatMul", shape=(*STATES[:2], 3))
    model = model_of([x], [plain.outputs[0], through.outputs[0]], plain, transpose, through)
    first, second = products(model.graph, smallest=3)
    assert (first.transposed, second.transposed) == (False, True)
    assert first.states is second.states is x
    np.testing.assert_array_equal(first.weight, constant(stored).T)
    np.testing.assert_array_equal(second.weight, constant(turned))


@pytest.mark.parametrize("bias_first", [True, False])
def test_a_bias_is_found_on_either_side_of_its_addition(bias_first: bool) -> None:
    x, bias = value("x", *STATES), matrix("bias", 4)
    product = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    terms = (bias, product.outputs[0]) if bias_first else (product.outputs[0], bias)
    addition = made(*terms, op_type="Add", shape=STATES)
    (found,) = products(model_of([x], [addition.outputs[0]], product, addition).graph, smallest=4)
    assert found.bias is bias
    assert found.nodes == [product, addition]


def test_an_addition_that_is_no_bias_or_whose_term_is_read_elsewhere_is_left_out() -> None:
    x, bias = value("x", *STATES), matrix("bias", 4)
    residual = made(x, matrix("w", 4, 4), op_type="MatMul", shape=STATES)
    with_states = made(residual.outputs[0], x, op_type="Add", shape=STATES)
    shared = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    with_bias = made(shared.outputs[0], bias, op_type="Add", shape=STATES)
    outputs = [with_states.outputs[0], with_bias.outputs[0], shared.outputs[0]]
    model = model_of([x], outputs, residual, with_states, shared, with_bias)
    assert [found.nodes for found in products(model.graph, smallest=4)] == [[residual], [shared]]


def test_a_matrix_is_large_from_the_smallest_side_on() -> None:
    halves = ir.Value(name="half", const_value=ir.tensor(np.zeros((SMALLEST, SMALLEST), np.float16)))
    assert is_large(matrix("enough", SMALLEST, SMALLEST))
    assert not is_large(matrix("narrow", SMALLEST, SMALLEST - 1))
    assert not is_large(matrix("vector", SMALLEST))
    assert not is_large(halves)
    assert not is_large(value("computed", SMALLEST, SMALLEST))
    assert not is_large(None)


def test_only_rows_of_a_large_constant_are_an_embedding() -> None:
    ids, words, types = value("ids", "batch", "sequence"), matrix("words", 70, 64), matrix("types", 2, 64)
    word = made(words, ids, op_type="Gather", shape=("batch", "sequence", 64))
    kind = made(types, ids, op_type="Gather", shape=("batch", "sequence", 64))
    model = model_of([ids], [word.outputs[0], kind.outputs[0]], word, kind)
    assert list(embeddings(model.graph)) == [word]
    np.testing.assert_array_equal(table(word), constant(words))

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import DOMAIN, constant, insert_after_producer, known, replace
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


def test_a_constant_is_an_initializer_with_the_arrays_shape_and_type() -> None:
    graph = model_of([value("x", *STATES)], []).graph
    array = np.array([[1, 2, 3]], np.int64)
    added = constant(graph, "sizes", array)
    assert graph.initializers["sizes"] is added
    assert added.dtype == ir.DataType.INT64
    assert added.shape == ir.Shape([1, 3])
    np.testing.assert_array_equal(known(added), array)


def test_the_array_of_a_constant_node_is_known_and_that_of_an_input_is_not() -> None:
    node = ir.node("Constant", [], {"value": ir.tensor(np.array([7.0], np.float32))})
    np.testing.assert_array_equal(known(node.outputs[0]), np.array([7.0], np.float32))
    assert known(value("x", *STATES)) is None
    assert known(None) is None


def test_a_node_is_inserted_where_its_input_is_first_known() -> None:
    x = value("x", *STATES)
    first = made(x, op_type="Relu", shape=STATES)
    last = made(first.outputs[0], op_type="Tanh", shape=STATES)
    graph = model_of([x], [last.outputs[0]], first, last).graph
    of_input, of_first = made(x, op_type="Neg", shape=STATES), made(first.outputs[0], op_type="Abs", shape=STATES)
    insert_after_producer(graph, x, of_input)
    insert_after_producer(graph, first.outputs[0], of_first)
    assert list(graph) == [of_input, first, of_first, last]


def test_a_replacement_takes_over_the_name_shape_and_readers_of_a_chain() -> None:
    x, weight, bias = value("x", *STATES), matrix("weight", 4, 4), matrix("bias", 4)
    product = made(x, weight, op_type="MatMul", shape=STATES)
    addition = made(product.outputs[0], bias, op_type="Add", shape=STATES)
    addition.outputs[0].name = "sum"
    reader = made(addition.outputs[0], op_type="Relu", shape=STATES)
    graph = model_of([x], [addition.outputs[0], reader.outputs[0]], product, addition, reader).graph
    replace(graph, [product, addition], "FusedMatMul", [x, weight], alpha=0.5)
    fused, kept = graph
    assert (fused.op_type, fused.domain, fused.attributes["alpha"].as_float()) == ("FusedMatMul", DOMAIN, 0.5)
    (new,) = fused.outputs
    assert (new.name, new.shape, new.dtype) == ("sum", ir.Shape(STATES), ir.DataType.FLOAT)
    assert graph.outputs[0] is new
    assert kept is reader and reader.inputs[0] is new

"""Conversions between packed and padded states, against a computation by hand."""

import numpy as np
import onnx_ir as ir
import pytest

from adamix_export.passes.nodes import DOMAIN
from adamix_export.passes.packed_layout import PackedLayout, is_by_sequence
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value
from tests.adamix_export.passes.packed_operators import run_packed

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
MASK = np.array([[1, 0, 0], [1, 1, 0]], np.int32)


@pytest.fixture
def model() -> ir.Model:
    """Twice the states, for each token."""
    x = value("x", *STATES)
    mask = ir.Value(name="mask", shape=ir.Shape(["batch", "sequence"]), type=ir.TensorType(ir.DataType.INT32))
    made_model = model_of([x, mask], [], made(x, x, op_type="Add", shape=STATES))
    made_model.graph.opset_imports[DOMAIN] = 1
    return made_model


def result(model: ir.Model, output: ir.Value) -> np.ndarray:
    output.name = "y"
    model.graph.outputs.append(output)
    model.graph.sort()
    return run_packed(ir.to_proto(model), {"x": X, "mask": MASK})


def layout_of(model: ir.Model) -> PackedLayout:
    return PackedLayout(model.graph, *model.graph.inputs)


def test_packed_states_are_those_of_tokens_in_order(model: ir.Model) -> None:
    (node,) = list(model.graph)
    layout_of(model).feed(node, [0, 1], padded=False)
    assert node.outputs[0].shape == ir.Shape([1, "tokens", 4])
    np.testing.assert_array_equal(result(model, node.outputs[0]), 2 * np.stack([X[0, 0], X[1, 0], X[1, 1]])[None])


def test_padding_comes_back_as_zeros(model: ir.Model) -> None:
    (node,) = list(model.graph)
    layout = layout_of(model)
    layout.feed(node, [0, 1], padded=False)
    negated = made(node.outputs[0], op_type="Neg", shape=STATES)
    model.graph.append(negated)
    layout.feed(negated, [0], padded=True)
    np.testing.assert_array_equal(result(model, negated.outputs[0]), -2 * X * MASK[:, :, None])


def test_padded_states_are_packed_again(model: ir.Model) -> None:
    (node,) = list(model.graph)
    layout = layout_of(model)
    layout.feed(node, [0, 1], padded=True)
    assert not layout.is_packed(node.outputs[0])
    negated = made(node.outputs[0], op_type="Neg", shape=STATES)
    model.graph.append(negated)
    layout.feed(negated, [0], padded=False)
    np.testing.assert_array_equal(result(model, negated.outputs[0]), -2 * np.stack([X[0, 0], X[1, 0], X[1, 1]])[None])


@pytest.mark.parametrize("index", [np.array(0, np.int64), np.array([0], np.int64)], ids=["0", "[0]"])
def test_first_tokens_are_found_by_the_starts_of_the_sequences(model: ir.Model, index: np.ndarray) -> None:
    (node,) = list(model.graph)
    layout = layout_of(model)
    layout.feed(node, [0, 1], padded=False)
    at = ir.Value(name="index", const_value=ir.tensor(index, name="index"), shape=ir.Shape(index.shape))
    selection = made(node.outputs[0], at, op_type="Gather", shape=("batch", *[1] * index.ndim, 4), axis=1)
    model.graph.append(selection)
    layout.gather_first(selection, at)
    np.testing.assert_array_equal(result(model, selection.outputs[0]), 2 * X.take(index, axis=1))


def test_states_are_converted_once(model: ir.Model) -> None:
    (node,) = list(model.graph)
    layout = layout_of(model)
    layout.feed(node, [0, 1], padded=False)
    for _ in range(2):
        reader = made(node.outputs[0], op_type="Neg", shape=STATES)
        model.graph.append(reader)
        layout.feed(reader, [0], padded=True)
    assert [one.op_type for one in model.graph].count("RestorePadding") == 1


def test_only_a_matrix_for_each_sequence_is_by_sequence() -> None:
    assert is_by_sequence(value("down", "batch", 4, 2))
    assert not is_by_sequence(matrix("weight", 4, 2))
    assert not is_by_sequence(value("positions", 1, "sequence", 4))
    assert not is_by_sequence(None)

"""Queries of all tokens again, where a pass had left those of the first."""

import numpy as np
import onnx_ir as ir

from adamix_export.passes.read_token import narrow_to_read_token
from adamix_export.passes.widen_queries import first_token_index, widen_queries
from tests.adamix_export.passes.graphs import STATES, made, value
from tests.adamix_export.passes.test_pack_tokens import encoder, run


def queries(model: ir.Model) -> list[object]:
    """The number of queries of each attention: 1, or a symbol."""
    return [
        node.inputs[0].shape[1] if isinstance(node.inputs[0].shape[1], int) else str(node.inputs[0].shape[1])
        for node in model.graph
        if node.op_type == "MultiHeadAttention"
    ]


def test_queries_are_those_of_all_tokens_and_the_result_is_the_same() -> None:
    model = encoder()
    narrow_to_read_token(model)
    assert queries(model) == ["sequence", 1]
    expected = run(model)
    widen_queries(model.graph)
    assert queries(model) == ["sequence", "sequence"]
    np.testing.assert_allclose(run(model), expected, atol=1e-6)


def test_what_follows_the_attention_still_sees_one_token() -> None:
    model = encoder()
    narrow_to_read_token(model)
    widen_queries(model.graph)
    (*_, attended) = [node for node in model.graph if node.op_type == "MultiHeadAttention"]
    ((selection, _),) = attended.outputs[0].uses()
    assert first_token_index(selection) is not None
    ((addition, _),) = selection.outputs[0].uses()
    assert addition.outputs[0].shape[1] == 1


def test_whole_queries_stay_as_they_are() -> None:
    model = encoder()
    before = [node.op_type for node in model.graph]
    widen_queries(model.graph)
    assert [node.op_type for node in model.graph] == before


def index_of(array: np.ndarray) -> ir.Value:
    return ir.Value(name="index", const_value=ir.tensor(array, name="index"), shape=ir.Shape(array.shape))


def test_a_selection_of_another_token_or_axis_is_no_first_token() -> None:
    x, zero, one = value("x", *STATES), index_of(np.array([0], np.int64)), index_of(np.array([1], np.int64))
    assert first_token_index(made(x, zero, op_type="Gather", shape=("batch", 1, 4), axis=1)) is zero
    assert first_token_index(made(x, one, op_type="Gather", shape=("batch", 1, 4), axis=1)) is None
    assert first_token_index(made(x, zero, op_type="Gather", shape=(1, "sequence", 4), axis=0)) is None

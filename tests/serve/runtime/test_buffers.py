"""The layout of a buffer, computed by hand; the tests of the KV cache read, write and move the rows themselves."""

import numpy as np
import onnx

from serve.runtime.buffers import IDENTITY, Layout

LAYOUT = Layout(shape=(5, 2, 3, 4), axis=2, dtype=np.dtype(np.float16))
"""Five rows of two heads, three tokens, four wide."""


def test_a_row_has_the_bytes_of_its_values() -> None:
    assert LAYOUT.row_bytes == 2 * 3 * 4 * 2


def test_the_first_tokens_of_a_row_are_those_of_every_head() -> None:
    row = np.arange(24).reshape(2, 3, 4)
    assert row[LAYOUT.tokens(1)].tolist() == [[[0, 1, 2, 3]], [[12, 13, 14, 15]]]


def test_the_graph_that_copies_is_one_identity_over_bytes() -> None:
    model = onnx.load_from_string(IDENTITY)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Identity", ["x"], ["y"])
    edges = (*model.graph.input, *model.graph.output)
    assert {edge.type.tensor_type.elem_type for edge in edges} == {onnx.TensorProto.UINT8}

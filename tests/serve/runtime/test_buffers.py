"""The layout of a buffer, computed by hand; the tests of the KV cache read, write and move the rows themselves."""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from serve.runtime.buffers import BUFFERS, TYPES, Layout, to_numpy
from serve.runtime.device_memory import HOST
from tests.fixtures.device_seam import FakeCudaRuntime

LAYOUT = Layout(shape=(5, 2, 3, 4), axis=2, dtype=np.dtype(np.float16))
"""Five rows of two heads, three tokens, four wide."""


def test_a_row_has_the_bytes_of_its_values() -> None:
    assert LAYOUT.row_bytes == 2 * 3 * 4 * 2


def test_the_first_tokens_of_a_row_are_those_of_every_head() -> None:
    row = np.arange(24).reshape(2, 3, 4)
    assert row[LAYOUT.tokens(1)].tolist() == [[[0, 1, 2, 3]], [[12, 13, 14, 15]]]


def test_the_tokens_of_a_head_lie_in_one_block() -> None:
    assert (LAYOUT.row_blocks, LAYOUT.block_bytes, LAYOUT.token_bytes) == (2, 3 * 4 * 2, 4 * 2)
    assert LAYOUT.row_shape(1) == (2, 1, 4)


def test_a_row_moves_in_one_copy_of_the_tokens_of_each_head(device_paths: FakeCudaRuntime) -> None:
    made = BUFFERS[HOST]({"key": LAYOUT}, HOST)
    states = {"key": np.arange(24, dtype=np.float16).reshape(2, 3, 4)}
    made.write(3, states, 3)
    device_paths.copies.clear()
    made.move(3, 1, 2)
    assert device_paths.copies == [(2 * 4 * 2, 2)]
    np.testing.assert_array_equal(made.read(1, 3)["key"][:, :2], states["key"][:, :2])
    assert not made.read(1, 3)["key"][:, 2:].any()


def test_memory_that_grows_keeps_its_content_in_one_copy_a_buffer(device_paths: FakeCudaRuntime) -> None:
    made = BUFFERS[HOST]({"key": LAYOUT}, HOST)
    states = {"key": np.arange(24, dtype=np.float16).reshape(2, 3, 4)}
    made.write(4, states, 3)
    device_paths.copies.clear()
    grown = made.resized({"key": Layout(shape=(7, 2, 5, 4), axis=2, dtype=np.dtype(np.float16))})
    assert device_paths.copies == [(3 * 4 * 2, 5 * 2)]
    found = grown.read(4, 5)["key"]
    np.testing.assert_array_equal(found[:, :3], states["key"])
    assert not found[:, 3:].any()
    shrunk = grown.resized({"key": Layout(shape=(5, 2, 2, 4), axis=2, dtype=np.dtype(np.float16))})
    np.testing.assert_array_equal(shrunk.read(4, 2)["key"], states["key"][:, :2])


def test_bf16_is_bound_and_copied_by_its_bytes(device_paths: FakeCudaRuntime) -> None:
    """They are the first two of a number's four in fp32."""
    layout = Layout(shape=(2, 2, 3, 4), axis=2, dtype=TYPES["tensor(bfloat16)"])
    made = BUFFERS[HOST]({"key": layout}, HOST)
    numbers = np.array([*range(-12, 10), 2.0**100, 3 * 2.0**-100], np.float32).reshape(2, 3, 4)
    made.write(1, {"key": (numbers.view(np.uint32) >> 16).astype(np.uint16).view(layout.dtype)}, 3)
    session = doubling_session()
    binding = session.io_binding()
    made.bind(binding, "key", ["past", "present"], 1, 1)
    session.run_with_iobinding(binding)
    for found in (made.read(1, 3)["key"], to_numpy(binding.get_outputs()[0])[0]):
        wide = (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(wide, 2 * numbers)


def doubling_session() -> ort.InferenceSession:
    """Return a graph that doubles a bf16 tensor."""
    shape = ["rows", 2, 3, 4]
    past, present = (helper.make_tensor_value_info(name, TensorProto.BFLOAT16, shape) for name in ("past", "present"))
    nodes = [
        helper.make_node("Cast", ["past"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "wide"], ["doubled"]),
        helper.make_node("Cast", ["doubled"], ["present"], to=TensorProto.BFLOAT16),
    ]
    graph = helper.make_graph(nodes, "double", [past], [present])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

"""The layout of a buffer, computed by hand; the tests of the KV cache read, write and move the rows themselves."""

import numpy as np

from serve.runtime.buffers import BUFFERS, Layout
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

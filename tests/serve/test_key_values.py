"""The cache's buffers: what lies in them stays when they grow and shrink."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.bundle import Edge
from serve.errors import Overloaded
from serve.key_values import KeyValues

EDGE = Edge(name="0.key", dtype="tensor(float)", shape=["batch", 2, "max_length", 3])
BOUND = 60


def buffers(step: int = 4) -> KeyValues:
    return KeyValues([EDGE], tokens="max_length", bound=BOUND, step=step)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 20)).filter(lambda pair: pair[0] * pair[1] <= BOUND)))
def test_there_is_room_for_what_is_in_use_and_never_more_than_the_bound(needs: list[tuple[int, int]]) -> None:
    made = buffers()
    for number, (rows, tokens) in enumerate(needs):
        before = made.buffers["0.key"]
        made.reserve(rows, tokens)
        after = made.buffers["0.key"]
        assert after.shape == (made.rows, 2, made.tokens, 3)
        assert rows <= made.rows and tokens <= made.tokens and made.rows * made.tokens <= BOUND
        kept = tuple(slice(min(sizes)) for sizes in zip(before.shape, after.shape, strict=True))
        np.testing.assert_array_equal(before[kept], after[kept])
        after[:rows, :, :tokens] = number + 1


def test_what_was_needed_before_is_kept_while_there_is_room() -> None:
    made = buffers()
    made.reserve(2, 20)
    made.reserve(3, 5)
    assert (made.rows, made.tokens) == (3, 20)
    made.reserve(5, 5)
    assert (made.rows, made.tokens) == (5, 8)


def test_a_row_moves_and_is_read_and_written() -> None:
    made = buffers()
    made.reserve(3, 4)
    made.buffers["0.key"][2] = np.arange(24).reshape(2, 4, 3)
    made.move(2, 0, 3)
    states = made.read(0, 3)
    np.testing.assert_array_equal(states["0.key"], np.arange(24).reshape(2, 4, 3)[:, :3])
    assert not made.buffers["0.key"][0, :, 3:].any()
    made.write(1, states, 2)
    np.testing.assert_array_equal(made.buffers["0.key"][1, :, :2], states["0.key"][:, :2])
    made.clear(2)
    assert not made.buffers["0.key"][2].any()


def test_memory_that_is_not_there_is_one_error_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = buffers()
    made.reserve(1, 4)
    before = made.buffers

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", full)
    with pytest.raises(Overloaded, match="no memory for 2 rows of 8 tokens"):
        made.reserve(2, 8)
    assert made.buffers is before and (made.rows, made.tokens) == (1, 4)

from pathlib import Path

import numpy as np

from serve.adapters.host_memory import HostMemory
from serve.bundle.adapter import Adapter
from tests.serve.conftest import card


def adapters(count: int) -> list[Adapter]:
    return [Adapter(card(f"a{index}"), {"w": np.ones(2, np.float32)}, Path("anywhere")) for index in range(count)]


def test_the_least_recently_used_leaves_and_forgets_its_weights() -> None:
    memory, (first, second, third) = HostMemory(2), adapters(3)
    for one in (first, second, first, third):
        memory.hold(one, pinned=frozenset())
    assert list(memory) == ["a0", "a2"]
    assert [one.in_memory for one in (first, second, third)] == [True, False, True]


def test_pinned_ones_stay_though_they_are_more_than_the_limit() -> None:
    memory, held = HostMemory(1), adapters(3)
    for one in held:
        memory.hold(one, pinned={"a0", "a1"})
    assert list(memory) == ["a0", "a1"]
    assert held[1].in_memory and not held[2].in_memory


def test_without_a_limit_all_stay() -> None:
    memory = HostMemory(None)
    for one in adapters(50):
        memory.hold(one, pinned=frozenset())
    assert len(memory) == 50


def test_the_same_weights_are_held_once() -> None:
    memory, (first,), (again,) = HostMemory(2), adapters(1), adapters(1)
    for one in (first, again):
        memory.hold(one, pinned=frozenset())
    assert memory["a0"] is again and not first.in_memory

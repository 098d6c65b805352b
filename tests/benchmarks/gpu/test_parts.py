import pytest

from benchmarks.gpu.parts import PARTS

MINUTES = 15


@pytest.mark.parametrize("name", PARTS)
def test_every_part_has_a_function(name: str) -> None:
    assert callable(PARTS[name].load())


def test_a_part_that_hangs_leaves_time_for_others() -> None:
    assert all(part.limit <= MINUTES * 60 / 4 for part in PARTS.values())


def test_the_smallest_is_first_and_bundles_are_made_before_they_are_measured() -> None:
    order = list(PARTS)
    assert order[0] == "ceilings"
    assert all(order.index("shapes") < order.index(name) for name in ("classify-large", "decode", "decode-large"))

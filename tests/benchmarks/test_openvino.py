import numpy as np
import pytest

from benchmarks.classify import SHAPES
from benchmarks.openvino import batches, goals, require_agreement
from benchmarks.support.errors import DisagreementError
from benchmarks.support.rounds import Timing


def test_goals_are_of_the_worst_shape_and_of_the_mean() -> None:
    sides = {"adamix": 1.0, "openvino": 2.0, "adamix-int8": 0.5, "openvino-int8": 0.6}
    timings = {case: {name: Timing([seconds]) for name, seconds in sides.items()} for case in SHAPES}
    timings["1x16"]["openvino-int8"] = Timing([0.4])
    exact, worst, mean = goals(timings)
    assert (exact.value, exact.met) == (2.0, True)
    assert (worst.value, worst.met) == (pytest.approx(0.8), False)
    assert mean.value == pytest.approx((0.8 + 4 * 1.2) / 5)


@pytest.mark.parametrize(("rows", "length", "sizes"), [(32, 128, [4] * 8), (8, 32, [8]), (3, 600, [1, 1, 1])])
def test_batches_are_those_that_the_engine_forms(rows: int, length: int, sizes: list[int]) -> None:
    ids = np.arange(rows * length).reshape(rows, length)
    found = [batch["input_ids"] for batch in batches({"input_ids": ids})]
    assert [len(batch) for batch in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), ids)


def test_sides_with_other_logits_are_not_timed() -> None:
    require_agreement([np.zeros((2, 2)), np.full((2, 2), 0.05)])
    with pytest.raises(DisagreementError, match="differ by nan"):
        require_agreement([np.zeros((2, 2)), np.full((2, 2), np.nan)])

import numpy as np
import pytest

from benchmarks.classify import SHAPES
from benchmarks.openvino import batches, goals, require_agreement, rows_of
from benchmarks.support.errors import DisagreementError
from benchmarks.support.report import table
from benchmarks.support.rounds import Timing


def test_goals_are_of_the_worst_shape_and_of_the_mean() -> None:
    ours, theirs = {"adamix": 1.0, "adamix-int8": 0.5}, {"openvino": 2.0, "openvino-default": 0.9, "openvino-int8": 0.6}
    sides = ours | theirs | {"openvino-default-int8": 0.3}
    timings = {case: {name: Timing([seconds]) for name, seconds in sides.items()} for case in SHAPES}
    timings["1x16"]["openvino-int8"] = Timing([0.4])
    timings["8x32"]["openvino-default"] = Timing([0.6])
    rows = rows_of(timings)
    assert len(rows) == 5 * len(SHAPES) and table(rows)
    (row,) = [row for row in rows if (row["case"], row["peer"]) == ("8x32", "openvino-default") and row["ms"] == 500]
    assert (row["side"], row["peer_ms"], row["ratio"]) == ("adamix-int8", 600, pytest.approx(1.2))
    assert [(goal.what, pytest.approx(goal.value), goal.met) for goal in goals(timings)] == [
        ("fp32 by openvino, worst shape", 2.0, True),
        ("int8 by openvino-int8, worst shape", 0.8, False),
        ("int8 by openvino-default, worst shape", 1.2, False),
        ("int8 by openvino-int8, mean of the shapes", (0.8 + 4 * 1.2) / 5, True),
    ]


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

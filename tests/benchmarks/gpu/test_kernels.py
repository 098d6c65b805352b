from benchmarks.gpu.kernels import CASES, OTHERS, TOP, Work, rows_of_work
from benchmarks.gpu.models import BUNDLES

KERNELS = {f"kernel {index}": (index * 1e-3, float(index)) for index in range(1, TOP + 3)}


def test_the_longest_kernels_have_a_row_each_and_the_others_one() -> None:
    rows = rows_of_work("case", Work(0.1, KERNELS))
    assert [row["kernel"] for row in rows[:-1]] == [f"kernel {index}" for index in range(TOP + 2, 2, -1)]
    assert rows[-1]["kernel"] == OTHERS
    assert rows[-1]["launches"] == 1 + 2
    assert round(float(str(rows[-1]["ms"])), 6) == 1 + 2


def test_the_busy_time_is_the_sum_of_all_kernels() -> None:
    (row, *_) = rows_of_work("case", Work(0.1, KERNELS))
    assert round(float(str(row["busy_ms"])), 6) == sum(range(1, TOP + 3))
    assert row["wall_ms"] == 100.0


def test_every_case_is_of_a_bundle_that_a_run_has() -> None:
    assert set(CASES) <= set(BUNDLES)

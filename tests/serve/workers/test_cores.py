import pytest

from serve.workers.cores import Share, shares_of


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [
        ([0, 1], 2, [Share((0,), 1), Share((1,), 1)]),
        ([0, 1, 2, 3], 2, [Share((0, 1), 2), Share((2, 3), 2)]),
        ([4, 5, 6, 7, 8], 3, [Share((4, 5), 2), Share((6, 7), 2), Share((8,), 1)]),
        ([0], 2, [Share((), 1), Share((), 1)]),
    ],
)
def test_each_worker_has_its_share(cores: list[int], workers: int, expected: list[Share]) -> None:
    assert shares_of(cores, workers) == expected

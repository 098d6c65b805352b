import pytest

from benchmarks.support.comparison import Comparison
from benchmarks.support.rounds import Timing


@pytest.fixture
def comparison():
    return Comparison(
        "ours",
        {
            "small": {"ours": Timing([1.0]), "slow": Timing([4.0]), "quick": Timing([0.5])},
            "large": {"ours": Timing([10.0]), "slow": Timing([30.0]), "quick": Timing([9.0, 9.0, 12.0])},
        },
    )


def test_a_ratio_is_the_peers_time_by_ours(comparison):
    assert comparison.ratio("small", "slow").value == 4.0


def test_the_worst_ratio_names_its_case_and_peer(comparison):
    assert str(comparison.worst()) == "0.500 at small against quick"
    assert str(comparison.worst("slow")) == "3.000 at large against slow"


def test_rows_are_flat_with_the_same_keys(comparison):
    small, large = comparison.rows()
    assert list(small) == ["case", "ours_ms", "slow_ms", "quick_ms", "ratio_slow", "ratio_quick", "noise"]
    assert list(large) == list(small)
    assert (small["case"], small["ours_ms"], small["ratio_quick"], small["noise"]) == ("small", 1000.0, 0.5, 0.0)


def test_noise_is_that_of_the_noisiest_side(comparison):
    _, large = comparison.rows()
    assert large["noise"] == pytest.approx((10.5 - 9.0) / 9.0)

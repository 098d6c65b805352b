import numpy as np
import pytest

from benchmarks.classify import SHAPES, goals, random_tokens, require_agreement, work_of
from benchmarks.support.classifier_sides import INT8, OPTIMUM, OURS
from benchmarks.support.comparison import Comparison
from benchmarks.support.errors import DisagreementError
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Timing


def comparison(ours=OURS, **seconds):
    """Sides that take the same time at every shape."""
    names = {name.replace("_", "-"): time for name, time in seconds.items()}
    return Comparison(ours, {case: {name: Timing([s]) for name, s in names.items()} for case in SHAPES})


def int8(**seconds):
    return comparison(OURS + INT8, **seconds)


def test_the_first_goal_is_against_the_best_peer():
    ratio, eager, *_ = goals(comparison(adamix=1.0, pytorch=2.5, optimum=0.9), int8(adamix_int8=0.5), 1e11, [])
    assert (ratio.value, ratio.met) == (0.9, False)
    assert (eager.value, eager.met) == (2.5, True)


def test_without_a_peer_the_goal_says_so():
    absent = [Absent(peer="optimum", reason="make peers")]
    ratio, *_, quantised = goals(comparison(adamix=1.0, pytorch=2.5), int8(adamix_int8=0.5), 1e11, absent)
    assert ratio.value == 2.5
    assert "without optimum" in ratio.what
    assert (quantised.value, quantised.met) == (None, False)


def test_int8_is_compared_with_our_fp32_and_with_the_peers_int8():
    exact = comparison(adamix=1.0, pytorch=2.5)
    *_, speed, peer = goals(exact, int8(adamix_int8=0.4, optimum_int8=0.6), 1e11, [])
    assert (speed.value, speed.met) == (2.5, True)
    assert (peer.value, peer.met) == (pytest.approx(1.5), True)
    assert OPTIMUM + INT8 == "optimum-int8"


def test_the_rate_counts_the_work_of_our_graph():
    """Five layers of six and the keys and values of the last, but for a few tokens: 32 rows of 128."""
    whole = 2 * 4096 * 6 * (4 * 384**2 + 2 * 384 * 1536 + 2 * 128 * 384)
    assert 5 / 6 < work_of(32, 128) / whole < 5.4 / 6
    _, _, rate, *_ = goals(comparison(adamix=0.5, pytorch=1.0), int8(adamix_int8=0.5), 2e11, [])
    assert rate.value == pytest.approx(work_of(32, 128) / 0.5 / 2e11)


@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_sides_that_disagree_with_pytorch_fail(wrong):
    good = np.ones((2, 3), np.float32)
    with pytest.raises(DisagreementError, match="logits of adamix"):
        require_agreement("1x16", {"pytorch": good, "adamix": good * np.float32(wrong)})


def test_sides_that_agree_pass():
    good = np.ones((2, 3), np.float32)
    require_agreement("1x16", {"pytorch": good, "adamix": good + np.float32(1e-6)})


def test_masks_are_full():
    feed = random_tokens(2, 5)
    assert {name: ids.shape for name, ids in feed.items()} == dict.fromkeys(feed, (2, 5))
    assert feed["attention_mask"].all()
    assert len(np.unique(feed["input_ids"])) > 5

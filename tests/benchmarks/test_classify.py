import numpy as np
import pytest

from benchmarks.classify import SHAPES, goals, random_tokens, require_agreement
from benchmarks.comparison import Comparison
from benchmarks.errors import DisagreementError
from benchmarks.report import Absent
from benchmarks.rounds import Timing


def comparison(**seconds):
    return Comparison("adamix", {case: {name: Timing([s]) for name, s in seconds.items()} for case in SHAPES})


def test_the_first_goal_is_against_the_best_peer():
    ratio, eager = goals(comparison(adamix=1.0, pytorch=2.5, optimum=0.9), [])
    assert (ratio.value, ratio.met) == (0.9, False)
    assert (eager.value, eager.met) == (2.5, True)


def test_without_a_peer_the_goal_says_so():
    ratio, _ = goals(comparison(adamix=1.0, pytorch=2.5), [Absent(peer="optimum", reason="make peers")])
    assert ratio.value == 2.5
    assert "without optimum" in ratio.what


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

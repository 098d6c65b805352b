import pytest

from benchmarks import continuous
from benchmarks.continuous import CONTESTS, OURS, Case
from benchmarks.support.arrivals import Served, Turns


def test_goodput_and_waits_are_held_against_their_goals() -> None:
    mine = Turns([Served(first=[0.2, 0.6], end=2.0, step=0.1)])
    theirs = Turns([Served(first=[0.9, 1.9], end=5.0)])
    batches, continuous_peer = CONTESTS[0], next(one for one in CONTESTS if one.continuous)
    assert (batches.precision, continuous_peer.precision) == ("fp32", "fp32")
    turns = {
        Case(batches, 3.0): {OURS: mine, batches.peer: theirs},
        Case(continuous_peer, 1.0): {OURS: mine, continuous_peer.peer: theirs},
    }
    prefills = {contest: [0.1, 0.1] for contest in CONTESTS}
    findings = continuous.findings_of(turns, prefills, 100, [], {})
    assert [(goal.value, goal.met) for goal in findings.goals] == [
        (2.5, True),
        (pytest.approx(4.8), True),
        (2.5, True),
        (pytest.approx(1.85 / 0.58), True),
        (pytest.approx(4.8), True),
    ]
    assert findings.goals[0].what == "fp32 by genai fp32, load 3: goodput by the peer's"
    assert findings.rows[0]["tokens_a_second"] == 50.0
    alone = continuous.findings_of({Case(continuous_peer, 1.0): {OURS: mine}}, prefills, 100, [], {})
    assert [(goal.value, goal.met) for goal in alone.goals[:2]] == [(None, False)] * 2
    assert alone.worst == "no peer was there"

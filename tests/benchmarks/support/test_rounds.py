import pytest

from benchmarks.support.rounds import Pace, Reported, Timing, measure


class Bench:
    """Sides that take a known time on a clock of their own, and note when they ran."""

    def __init__(self, seconds):
        self.seconds, self.now, self.calls, self.rests = seconds, 0.0, [], []

    def cases(self, *names):
        return {case: {side: self.side(case, side) for side in self.seconds} for case in names}

    def side(self, case, name):
        def call():
            self.calls.append((case, name))
            taken = self.seconds[name]
            self.now += taken.pop(0) if isinstance(taken, list) else taken

        return call

    def pace(self, rounds, **kwargs):
        return Pace(rounds=rounds, clock=lambda: self.now, sleep=self.rests.append, **kwargs)


def turns(calls):
    """Return who had a turn: calls in a row by one side of one case are one."""
    return [call for before, call in zip([None, *calls], calls, strict=False) if call != before]


def test_sides_take_turns_and_every_round_starts_with_another():
    bench = Bench({"a": 1.0, "b": 1.0, "c": 1.0})
    measure(bench.cases("small"), bench.pace(3))
    assert "".join(side for _, side in turns(bench.calls)) == "abcbcacab"


def test_every_round_visits_every_case():
    bench = Bench({"a": 1.0, "b": 1.0})
    measure(bench.cases("small", "large"), bench.pace(2))
    assert [case for case, _ in turns(bench.calls)] == ["small", "small", "large", "large"] * 2


def test_a_turn_rests_warms_up_and_fills_its_time():
    bench = Bench({"fast": 0.25, "slow": 9.0})
    timings = measure(bench.cases("small"), bench.pace(1, turn_seconds=1.0, rest_seconds=0.5))
    assert bench.rests == [0.5, 0.5]
    assert bench.calls == [("small", "fast")] * 5 + [("small", "slow")] * 2
    assert timings["small"]["fast"].turns == [0.25]


def test_the_warm_up_is_not_timed():
    bench = Bench({"a": [100.0, 1.0]})
    timings = measure(bench.cases("small"), bench.pace(1))
    assert timings["small"]["a"].turns == [1.0]


def test_a_call_may_report_a_part_of_its_time() -> None:
    pace = Pace(rounds=1, turn_seconds=1.0, rest_seconds=0.0)
    found = measure({"case": {"side": lambda: Reported(2.0)}}, pace)
    assert found["case"]["side"].seconds == 2.0


def test_the_figure_is_the_median_of_the_rounds():
    timing = Timing([3.0, 1.0, 100.0, 2.0, 4.0])
    assert timing.seconds == 3.0
    assert timing.noise == pytest.approx((4.0 - 2.0) / 3.0)


def test_one_round_has_no_noise():
    assert Timing([3.0]).noise == 0


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Pace(rounds=0)

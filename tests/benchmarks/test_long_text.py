import pytest

from benchmarks import long_text
from benchmarks.long_text import ALONE, BEGUN, BUCKETS, LIMITS, ONE_BATCH, findings_of, measure
from benchmarks.support.generation_sides import Ours
from benchmarks.support.rounds import Timing
from serve.limits import GenerationLimits


def test_times_are_by_those_without_a_long_text() -> None:
    seconds = {ALONE: 2.0, BUCKETS: 2.5, ONE_BATCH: 11.0}
    times = {("fp32", begun, side): Timing([value]) for begun in BEGUN for side, value in seconds.items()}
    rates = {case: Timing([3.0]) for case in times}
    found = findings_of(times, rates)
    assert [row["ratio"] for row in found.rows] == [1.0, 1.25, 5.5] * 2
    assert [(goal.value, goal.met) for goal in found.goals] == [(1.25, True)] * 2
    times["fp32", BEGUN[1], BUCKETS] = Timing([2.8])
    assert [goal.met for goal in findings_of(times, rates).goals] == [True, False]


def test_the_budget_has_room_for_all_texts_if_none_is_charged_as_another() -> None:
    limits = LIMITS[BUCKETS]
    short = long_text.SHORT * (long_text.READ + long_text.NEW)
    assert long_text.LONGEST + short <= limits.max_tokens_in_flight < 3 * long_text.LONGEST
    assert limits.max_batch_requests == long_text.SHORT + 1


@pytest.mark.slow
def test_short_texts_are_written_beside_a_long_one(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ours.generator.registry
    monkeypatch.setattr(registry, "adapters", {"one": registry.find("one")})
    for name, value in {"SHORT": 3, "READ": 4, "NEW": 5, "LONGEST": 40, "VOCABULARY": 11}.items():
        monkeypatch.setattr(long_text, name, value)
    limits = GenerationLimits(max_batch_requests=4, prefix_tokens=0, long_row_tokens=12, max_tokens_in_flight=100)
    seconds, written = measure(ours, limits, 8)
    assert seconds > 0 and 1 <= written <= 32
    seconds, written = measure(ours, limits, None)
    assert seconds > 0 and written == 0

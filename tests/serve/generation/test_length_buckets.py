"""Long and short sequences side by side: none is charged as another, and each has its share of the time."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from serve.generation import length_buckets
from serve.generation.generator import Generator
from serve.generation.length_buckets import LEAST_SHARE
from serve.generation.request import CacheRow, SequenceState
from serve.generation.scheduler import OVERTAKINGS, ContinuousBatchScheduler
from tests.fixtures.sequences import new_scheduler, new_sequence, run

NEVER_ENDS = {"logit_bias": {2: -100.0}}


def stream(generator: Generator, tokens: int, adapter: str = "north") -> SequenceState:
    """A sequence of one token of prompt that generates `tokens` more."""
    return new_sequence(generator, [4], adapter, tokens, **NEVER_ENDS)


def held(scheduler: ContinuousBatchScheduler) -> list[int]:
    return [batch.runner.held_tokens for batch in scheduler.buckets.batches]


def test_a_short_sequence_is_not_charged_as_a_long_one(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_tokens_in_flight=60, long_row_tokens=20)
    long, short = stream(generator, 39), [stream(generator, 4) for _ in range(4)]
    scheduler.submit(long)
    scheduler.submit(*short)
    for _ in range(3):
        scheduler.step()
    assert scheduler.buckets.tokens_in_flight == 40 + 4 * 5, "in one batch it would be 5 x 40"
    assert len(scheduler.buckets.rows) == 5
    run(scheduler)
    for one in (long, *short):
        assert len(one.tokens) == one.max_new_tokens
        alone = stream(generator, one.max_new_tokens)
        run(new_scheduler(generator), alone)
        assert one.tokens == alone.tokens


def test_room_that_one_bucket_kept_is_given_to_another(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_tokens_in_flight=300, long_row_tokens=20)
    run(scheduler, *(stream(generator, 9) for _ in range(2)))
    assert held(scheduler) == [256, 0], "2 rows of 128 tokens, the step in which buffers grow"
    short, long = stream(generator, 9), stream(generator, 39)
    scheduler.submit(short)
    scheduler.submit(long)
    scheduler.step()
    scheduler.step()
    assert len(scheduler.buckets.rows) == 2
    assert sum(held(scheduler)) <= 300 and min(held(scheduler)) > 0
    run(scheduler)
    alone = stream(generator, 9)
    run(new_scheduler(generator), alone)
    assert short.tokens == alone.tokens, "its states were moved with it"


def test_a_batch_of_few_rows_has_its_least_share_of_the_time(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the long row takes 3 s, one of the four short ones 1 s, by a clock of the test."""
    now = 0.0
    monkeypatch.setattr(length_buckets, "time", SimpleNamespace(perf_counter=lambda: now))
    scheduler = new_scheduler(generator, long_row_tokens=40)
    long, short = stream(generator, 45), [stream(generator, 36) for _ in range(9)]
    scheduler.submit(long)
    scheduler.step()
    scheduler.submit(*short)
    scheduler.step()
    steps = {0: 0, 1: 0}
    for _ in range(30):
        for batch in scheduler.buckets.due():
            place = scheduler.buckets.batches.index(batch)
            steps[place] += 1
            now += 3.0 if place else 1.0
    assert steps[0] == 30, "the batch with the most rows decodes in every step"
    assert LEAST_SHARE == 1 / 7, "of 30 s of theirs and x of the long row's: x = 5 s, and at most a step more"
    assert steps[1] == 2
    run(scheduler)
    assert len(long.tokens) == 45


def test_a_batch_alone_decodes_in_every_step(generator: Generator) -> None:
    scheduler = new_scheduler(generator, long_row_tokens=20)
    scheduler.submit(stream(generator, 39))
    scheduler.step()
    for _ in range(5):
        (batch,) = scheduler.buckets.due()
        assert batch is scheduler.buckets.batches[1]
    run(scheduler)


def test_one_that_has_no_room_is_overtaken_a_bounded_number_of_times(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_batch_requests=2, max_tokens_in_flight=60, long_row_tokens=20)
    first, waiting = stream(generator, 40), stream(generator, 40)
    scheduler.submit(first)
    scheduler.submit(waiting)
    scheduler.step()
    short = [new_sequence(generator, [4], "north", 2, **NEVER_ENDS) for _ in range(3)]
    scheduler.submit(*short)
    waiting.overtaken = OVERTAKINGS - 2
    run(scheduler)
    assert all(one.finish_time is not None for one in (first, waiting, *short))
    times = [one.finish_time or 0.0 for one in (*short, first, waiting)]
    assert times[0] < times[1] < times[3], "two overtake the one that waits, beside the first"
    assert times[2] > times[3], "the third does not"
    assert waiting.overtaken == OVERTAKINGS


@pytest.mark.parametrize("beams", [1, 2])
def test_a_full_batch_does_not_look_through_the_queue(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    """A queue of a thousand took five milliseconds of every step; here it is asked for its order when a row is free."""
    scheduler = new_scheduler(generator, max_batch_requests=4)
    fields = {"num_beams": beams} if beams > 1 else NEVER_ENDS
    texts = [new_sequence(generator, [4], "north", 4, **fields) for _ in range(12)]
    scheduler.submit(*texts)
    asked: list[int] = []
    in_turn = scheduler.queue.in_turn

    def noted(running: Sequence[SequenceState]) -> Iterator[SequenceState]:
        asked.append(sum(one.sampling.num_beams for one in running))
        return in_turn(running)

    monkeypatch.setattr(scheduler.queue, "in_turn", noted)
    run(scheduler)
    assert all(one.finish_reason is not None and one.error is None for one in texts)
    assert asked
    assert max(asked) < 4


def test_a_batch_is_full_when_no_row_is_left(generator: Generator) -> None:
    """With the rows of a beam search, of a prompt that is being read, and of those that join."""
    scheduler = new_scheduler(generator, max_batch_requests=4, prefill_chunk=4)
    beams, long = new_sequence(generator, [4], "north", 4, num_beams=2), new_sequence(generator, [4] * 12, "north", 4)
    scheduler.submit(beams)
    scheduler.step()
    buckets = scheduler.buckets
    assert (buckets.is_full(), len(buckets.rows)) == (False, 2)
    scheduler.submit(long)
    scheduler.step()
    assert buckets.prefilling is not None
    joining = [CacheRow(stream(generator, 4), [])]
    assert (buckets.is_full(), buckets.is_full(joining)) == (False, True)
    run(scheduler)

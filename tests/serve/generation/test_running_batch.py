"""The rows of the running batch: they stay side by side, whatever joins and leaves."""

from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.generation.request import SequenceState
from serve.generation.running_batch import RunningBatch
from serve.generation.scheduler import ContinuousBatchScheduler
from tests.fixtures.hand_computed_decoder import HandComputedDecoder
from tests.fixtures.sequences import new_scheduler, new_sequence, run


def begun(scheduler: ContinuousBatchScheduler, *sequences: SequenceState) -> RunningBatch:
    scheduler.submit(*sequences)
    scheduler.step()
    return scheduler.buckets.batches[0]


def test_the_last_row_takes_the_place_of_one_that_ended(generator: Generator, decoder: HandComputedDecoder) -> None:
    scheduler = new_scheduler(generator)
    sequences = [new_sequence(generator, [4 + index, 5], "north", 9, logit_bias={2: -100}) for index in range(3)]
    batch = begun(scheduler, *sequences)
    sequences[0].cancelled = True
    scheduler.step()
    assert [row.sequence for row in batch.rows] == [sequences[2], sequences[1]]
    run(scheduler)
    alone = [new_sequence(generator, [4 + index, 5], "north", 9, logit_bias={2: -100}) for index in (1, 2)]
    run(new_scheduler(generator), *alone)
    assert [one.tokens for one in sequences[1:]] == [one.tokens for one in alone]


def test_a_row_that_is_prefilled_lies_behind_those_that_decode(generator: Generator) -> None:
    scheduler = new_scheduler(generator, prefill_chunk=4, prefix_tokens=0)
    long, short = new_sequence(generator, [4] * 20, "north"), new_sequence(generator, [5, 6], "south", 30)
    begun(scheduler, long)
    batch = begun(scheduler, short)
    assert batch.prefilling is not None and batch.prefilling.sequence is long
    assert [row.sequence for row in batch.rows] == [short]
    assert batch.sequences() == [short, long]
    run(scheduler)
    assert long.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)


def test_room_is_counted_as_if_every_row_were_as_long_as_the_longest(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_batch_requests=4, max_tokens_in_flight=40)
    short, search = new_sequence(generator, [4, 5], "north", 8), new_sequence(generator, [4], "north", 9, num_beams=3)
    batch = begun(scheduler, short)
    scheduler.queue.submit(search)
    assert batch.tokens_in_flight == 10
    assert scheduler.buckets.has_room(search, []), "4 rows of 10 tokens"
    wide = new_sequence(generator, [4] * 3, "north", 8)
    wide.max_new_tokens = 20
    assert not scheduler.buckets.has_room(wide, []), "2 rows of 23 tokens"
    search.cancelled = True
    run(scheduler)


def test_a_failure_ends_every_sequence_and_clears_the_rows(generator: Generator) -> None:
    scheduler = new_scheduler(generator, prefill_chunk=4, prefix_tokens=0)
    sequences = [new_sequence(generator, [4, 5], "north", 30), new_sequence(generator, [6] * 20, "south")]
    batch = begun(scheduler, *sequences)
    scheduler.step()
    batch.fail_all(ValueError("broken"))
    assert all(sequence.finish_reason is FinishReason.FAILED for sequence in sequences)
    assert not batch.rows and batch.prefilling is None
    cache = batch.runner.cache
    assert not any(array.any() for row in range(cache.rows) for array in cache.read(row, cache.tokens).values())
    assert generator.bank is not None and not generator.bank.in_use

"""The queue: sequences that can never be generated are refused before they wait, and so are more than may wait."""

import time

import pytest

from serve.api_keys import ApiKey, client_key
from serve.errors import DeadlineExceeded, InputError, Overloaded
from serve.generated_text import FinishReason
from serve.generation.admission import AdmissionQueue
from serve.generation.generator import Generator
from serve.generation.request import SequenceState
from serve.limits import DEFAULT_MAX_NEW_TOKENS, GenerationLimits
from serve.sampling_params import GREEDY
from tests.fixtures.hand_computed_decoder import CONTEXT
from tests.fixtures.sequences import new_scheduler, new_sequence, run


def queue(**limits: float) -> AdmissionQueue:
    return AdmissionQueue(GenerationLimits(**limits), vocabulary=11, context_length=CONTEXT)  # type: ignore[arg-type]


def test_a_sequence_that_can_never_be_generated_is_refused(generator: Generator) -> None:
    for ids, count, message in (
        ([], 3, "the prompt is empty"),
        ([4] * 10, CONTEXT, f"never fit: the model's context has {CONTEXT}"),
        ([4] * CONTEXT, 1, f"never fit: the model's context has {CONTEXT}"),
    ):
        with pytest.raises(InputError, match=message):
            queue().submit(new_sequence(generator, ids, "north", count))
    with pytest.raises(InputError, match="logprobs asks for 12 tokens; there are 11"):
        queue().submit(new_sequence(generator, [4], "north", logprobs=12))
    with pytest.raises(InputError, match="a search with 12 beams needs as many tokens; there are 11"):
        queue().submit(new_sequence(generator, [4], "north", num_beams=12))
    with pytest.raises(InputError, match="logit_bias names token 11: there are 0 to 10"):
        queue().submit(new_sequence(generator, [4], "north", logit_bias={11: 1.0}))


def test_more_sequences_than_may_wait_are_refused_together(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_queued_requests=2)
    with pytest.raises(InputError, match="3 texts at once: at most 2 may wait"):
        scheduler.submit(*(new_sequence(generator, [4], "north") for _ in range(3)))
    scheduler.submit(*(new_sequence(generator, [4], "north") for _ in range(2)))
    with pytest.raises(Overloaded, match="2 texts wait already"):
        scheduler.submit(new_sequence(generator, [4], "north"))
    run(scheduler)


def test_a_request_without_max_new_tokens_gets_the_default_or_what_the_context_leaves(generator: Generator) -> None:
    short = AdmissionQueue(GenerationLimits(), vocabulary=11, context_length=None)
    for made, ids, expected in ((short, [4], DEFAULT_MAX_NEW_TOKENS), (queue(), [4] * 40, CONTEXT - 40)):
        (sequence,) = generator.sequences([generator.prompt_encoder.encode("good", generator.find("north"))], GREEDY)
        sequence.prompt = ids
        made.submit(sequence)
        assert sequence.max_new_tokens == expected


def test_a_sequence_that_waits_too_long_fails(generator: Generator) -> None:
    late, cancelled = (new_sequence(generator, [4], "north") for _ in range(2))
    made = queue(timeout=0.001)
    made.submit(late, cancelled)
    assert made.work.of([late.tenant]) == 2
    cancelled.cancelled = True
    time.sleep(0.01)
    made.update()
    assert not len(made)
    assert made.work.by_tenant == {}
    assert isinstance(late.error, DeadlineExceeded) and "no row was free within 0.001 s" in str(late.error)
    assert cancelled.finish_reason is FinishReason.CANCELLED


def test_a_request_that_has_begun_is_not_late(generator: Generator) -> None:
    begun, behind = (new_sequence(generator, [4], "north") for _ in range(2))
    late = new_sequence(generator, [4], "north")
    made = queue(timeout=0.2)
    made.submit(begun, behind)
    made.submit(late)
    made.update()
    made.begin(begun)
    time.sleep(0.3)
    made.update()
    assert behind.error is None and list(made.waiting) == [behind]
    assert isinstance(late.error, DeadlineExceeded)


def test_rows_are_shared_between_adapters_then_requests_and_then_by_age(generator: Generator) -> None:
    made = queue()

    def request(adapter: str, count: int) -> list[SequenceState]:
        sequences = [new_sequence(generator, [4], adapter) for _ in range(count)]
        made.submit(*sequences)
        return sequences

    first, second, other = request("north", 3), request("north", 2), request("south", 2)
    urgent = new_sequence(generator, [4], "north")
    urgent.priority = -1
    made.submit(urgent)
    made.update()
    assert list(made.in_turn([])) == [
        urgent,  # one row of north's
        other[0],
        first[0],
        other[1],
        second[0],
        first[1],
        second[1],
        first[2],
    ]
    running = [other[0], first[0], first[1]]
    for sequence in (urgent, *running):
        made.begin(sequence)
    assert next(made.in_turn(running)) is other[1], "south has one row, and north two"


def test_texts_of_a_request_take_the_turns_of_their_own_adapters(generator: Generator) -> None:
    made = queue()
    mixed = [new_sequence(generator, [4], adapter) for adapter in ("north", "south", "south")]
    alone = [new_sequence(generator, [4], "south") for _ in range(2)]
    made.submit(*mixed)
    made.submit(*alone)
    made.update()
    assert list(made.in_turn([])) == [mixed[0], alone[0], mixed[1], alone[1], mixed[2]]


def test_a_request_larger_than_the_batch_leaves_a_row_to_others(generator: Generator) -> None:
    for rows, count, at_once in ((16, 16, 16), (16, 17, 15), (16, 40, 15), (32, 40, 30), (4, 9, 4)):
        made = queue(max_batch_requests=rows)
        made.submit(*(new_sequence(generator, [4], "north") for _ in range(count)))
        made.update()
        assert len(list(made.in_turn([]))) == at_once
    made = queue(max_batch_requests=16)
    made.submit(*(new_sequence(generator, [4], "north", num_beams=10) for _ in range(3)))
    made.update()
    assert len(list(made.in_turn([]))) == 1, "a search that has not begun always may"


def test_a_short_request_is_answered_beside_a_long_one(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_batch_requests=16)
    long = [new_sequence(generator, [4, 5], "north", 20, ignore_eos=True) for _ in range(48)]
    scheduler.submit(*long)
    scheduler.step()
    short = new_sequence(generator, [4], "north", 2, ignore_eos=True)
    scheduler.submit(short)
    for _ in range(4):
        scheduler.step()
    assert short.finish_reason is FinishReason.LENGTH
    run(scheduler)
    assert all(len(sequence.tokens) == 20 for sequence in long)


def test_a_priority_is_among_the_requests_of_a_key(generator: Generator) -> None:
    made = queue(max_batch_requests=1)

    def submit(key: str, priority: int) -> SequenceState:
        sequence = new_sequence(generator, [4], "north")
        sequence.priority = priority
        token = client_key.set(ApiKey(name=key, sha256=""))
        try:
            made.submit(sequence)
        finally:
            client_key.reset(token)
        return sequence

    first, modest, urgent = submit("greedy", -1), submit("modest", 0), submit("greedy", -2)
    later = submit("greedy", -1)
    made.update()
    assert list(made.in_turn([])) == [urgent, modest, first, later]
    assert next(made.in_turn([first])) is modest

"""The state of one sequence: what ends it, and what its end releases."""

import time

import pytest

from serve.errors import GenerationFailed, InputError
from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.generation.sampling.choice import WholeRow
from tests.fixtures.hand_computed_decoder import END
from tests.fixtures.sequences import new_sequence


def test_the_end_of_sequence_token_or_the_last_one_ends_it_once(generator: Generator) -> None:
    ended: list[str] = []
    for tokens, reason in (([4, END, 5], FinishReason.STOP), ([4, 5, 6], FinishReason.LENGTH)):
        sequence = new_sequence(generator, [4], "north", 3)
        sequence.max_new_tokens = 3
        sequence.on_end = lambda: ended.append("ended")
        for token in tokens:
            if sequence.finish_reason is None:
                sequence.append(token)
        sequence.finish(FinishReason.CANCELLED)
        assert sequence.finish_reason is reason and END not in sequence.tokens
    assert len(ended) == 2


def test_the_first_tokens_time_is_kept(generator: Generator) -> None:
    sequence = new_sequence(generator, [4], "north", 3)
    sequence.max_new_tokens = 3
    before = time.monotonic()
    sequence.append(4)
    first = sequence.first_token_time
    sequence.append(5)
    assert first is not None and before <= first == sequence.first_token_time
    sequence.finish(FinishReason.CANCELLED)
    assert sequence.finish_time is not None and sequence.finish_time >= first


def test_an_error_of_serving_is_kept_and_any_other_becomes_a_failed_generation(generator: Generator) -> None:
    for error, kind, message in (
        (InputError("too much"), InputError, "too much"),
        (ValueError("first line\nsecond"), GenerationFailed, "the text cannot be generated: first line"),
    ):
        sequence = new_sequence(generator, [4], "north")
        sequence.fail(error)
        assert sequence.finish_reason is FinishReason.FAILED
        assert type(sequence.error) is kind and str(sequence.error) == message


def test_a_request_that_excludes_every_token_is_told(generator: Generator) -> None:
    sequence = new_sequence(generator, [4], "north", 8, no_repeat_ngram_size=1)
    logits = generator.forced_logits([generator.prompt("good", "north")], [[4]])[0][0]
    with pytest.raises(InputError, match=r"^no_repeat_ngram_size: what this excludes leaves no token") as refused:
        sequence.prompt = list(range(len(logits)))
        sequence.choose_token([WholeRow(logits)], int(logits.argmax()))
    assert refused.value.field == "no_repeat_ngram_size"

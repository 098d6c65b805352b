"""Texts are the same with guesses as without, token for token, whatever is asked of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import BundleError, GenerationFailed
from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.generation.prompt_lookup.lookup import MOST_ROWS, GuessedRow, PromptLookup
from serve.generation.request import CacheRow, SequenceState
from serve.limits import GenerationLimits
from tests.fixtures.hand_computed_decoder import NAMES, HandComputedDecoder, random_decoder, write_decoder_bundle
from tests.fixtures.sequences import broken_adapter, new_scheduler, new_sequence, run
from tests.serve.conftest import WORDS
from tests.serve.generation.prompt_lookup.conftest import eager_scheduler

PROMPTS = st.lists(st.integers(3, len(WORDS) - 1), min_size=1, max_size=30)
SAMPLINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 3.0]),
        "top_k": st.integers(0, 5),
        "top_p": st.sampled_from([0.4, 0.9, 1.0]),
        "min_p": st.sampled_from([0.0, 0.2]),
        "repetition_penalty": st.sampled_from([0.7, 1.0, 1.3]),
        "presence_penalty": st.sampled_from([0.0, 1.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "no_repeat_ngram_size": st.integers(0, 3),
        "logit_bias": st.dictionaries(st.integers(0, 10), st.floats(-2, 2), max_size=2),
        "stop": st.lists(st.sampled_from(["good", "late bad", "is very", "e b"]), max_size=2),
        "stop_token_ids": st.lists(st.integers(0, 10), max_size=1),
        "include_stop_str_in_output": st.booleans(),
        "ignore_eos": st.booleans(),
        "allowed_token_ids": st.just([]) | st.lists(st.integers(4, 10), min_size=2, max_size=5),
        "bad_words": st.lists(st.sampled_from(["good", "the"]), max_size=1),
        "logprobs": st.sampled_from([None, 0, 3]),
    },
)
BROKEN = WORDS.index("bill")
Asked = list[tuple[list[int], str, int, int, dict[str, Any]]]


def guessed(sequence: SequenceState) -> int:
    """Return the number of tokens of a sequence that were guessed."""
    return sum(row.guessed_tokens for row in sequence.rows)


def accepted(sequence: SequenceState) -> int:
    """Return the number of those that came true."""
    return sum(row.accepted_tokens for row in sequence.rows)


def outcome(sequence: SequenceState) -> tuple[object, ...]:
    """Return what a client gets of a sequence, but for the time that it took."""
    return (
        sequence.tokens,
        sequence.text,
        sequence.finish_reason,
        sequence.end_token,
        sequence.detokenizer.offsets,
        [[token for token, _ in one.top] for one in sequence.logprobs],
        len(sequence.token_times),
    )


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(
        st.tuples(PROMPTS, st.sampled_from([*NAMES, "base"]), st.integers(1, 16), st.integers(0, 99), SAMPLINGS),
        min_size=1,
        max_size=8,
    ),
    rows=st.integers(1, MOST_ROWS),
    most=st.integers(1, 9),
    chunk=st.integers(1, 50),
)
def test_in_any_mix_a_text_is_the_one_without_guesses(
    requests: Asked, rows: int, most: int, chunk: int, generator: Generator
) -> None:
    made = [
        [
            new_sequence(generator, ids, name, count, **{"seed": seed, **sampling})
            for ids, name, count, seed, sampling in requests
        ]
        for _ in range(2)
    ]
    run(new_scheduler(generator, prompt_lookup=0, max_batch_requests=rows, prefill_chunk=chunk), *made[0])
    run(eager_scheduler(generator, most, max_batch_requests=rows, prefill_chunk=chunk), *made[1])
    for expected, found in zip(*made, strict=True):
        assert outcome(found) == outcome(expected)
        for one, other in zip(found.logprobs, expected.logprobs, strict=True):
            assert one.chosen == pytest.approx(other.chosen, abs=1e-4)
    assert all(guessed(one) == 0 for one in made[0])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(ids=PROMPTS, name=st.sampled_from(NAMES), count=st.integers(1, 16))
def test_a_greedy_text_is_the_one_by_hand(
    ids: list[int], name: str, count: int, generator: Generator, decoder: HandComputedDecoder
) -> None:
    sequence = new_sequence(generator, ids, name, count)
    run(eager_scheduler(generator), sequence)
    assert sequence.tokens == decoder.greedy(ids, name, count)


def test_a_text_that_repeats_itself_takes_fewer_steps(generator: Generator) -> None:
    texts = [new_sequence(generator, [4, 5, 9], "north", 32, ignore_eos=True) for _ in range(2)]
    plain = run(new_scheduler(generator, prompt_lookup=0), texts[0])
    steps = run(eager_scheduler(generator), texts[1])
    assert texts[0].tokens == texts[1].tokens
    assert steps < plain / 2
    assert plain - steps == accepted(texts[1]) <= guessed(texts[1])


def test_no_token_is_run_behind_the_last_one(generator: Generator) -> None:
    """The cache has room for the longest text, and no more."""
    scheduler = eager_scheduler(generator, 15)
    sequence = new_sequence(generator, [4, 5] * 8, "north", 32, ignore_eos=True)
    scheduler.submit(sequence)
    while scheduler.busy:
        planned = scheduler.lookup.plan(scheduler.buckets.rows)
        assert all(one.total_tokens < sequence.max_length for one in planned)
        scheduler.step()
    assert (len(sequence.tokens), sequence.finish_reason) == (32, FinishReason.LENGTH)


def test_a_text_is_constrained_as_without_guesses(tmp_path: Path) -> None:
    from tests.fixtures.byte_decoder import write_byte_bundle

    generator = Generator(write_byte_bundle(tmp_path / "bytes", "{{ messages }}"), provider="cpu", threads=1)
    schema = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 3, "maxItems": 3}
    prompt = generator.prompt('["red", "red", "red"] ["red", "green", ', "north").input_ids
    made = [
        new_sequence(generator, prompt, "north", 60, json_schema=schema, temperature=temperature, seed=3)
        for temperature in (0.0, 1.0)
        for _ in range(2)
    ]
    run(new_scheduler(generator, prompt_lookup=0), made[0], made[2])
    run(eager_scheduler(generator), made[1], made[3])
    for expected, found in (made[:2], made[2:]):
        assert outcome(found) == outcome(expected)
    assert accepted(made[1])


def test_an_adapter_that_is_not_finite_fails_alone(generator: Generator, decoder: HandComputedDecoder) -> None:
    scheduler = eager_scheduler(generator)
    prompt = [4, 5, 9, 4, 5]
    broken, fine = (new_sequence(generator, prompt, name, 30, ignore_eos=True) for name in ("north", "south"))
    scheduler.submit(broken, fine)
    scheduler.step()
    with broken_adapter(generator, broken):
        run(scheduler)
    assert broken.finish_reason is FinishReason.FAILED and isinstance(broken.error, GenerationFailed)
    plain = new_sequence(generator, prompt, "south", 30, ignore_eos=True)
    run(new_scheduler(generator, prompt_lookup=0), plain)
    assert fine.tokens == plain.tokens


class OneWord(PromptLookup):
    """Guesses one word all the time."""

    def plan(self, rows: Sequence[CacheRow]) -> list[GuessedRow]:
        """Return all rows with that word as their guesses."""
        return [GuessedRow(row, [BROKEN, BROKEN], 3.0, 1.0) for row in rows if len(row.tokens) < 10]


def test_what_a_guess_makes_infinite_is_forgotten(tmp_path: Path) -> None:
    """A word whose states are not finite is guessed, and not chosen."""
    decoder = random_decoder()
    decoder.weights["embeddings"][BROKEN] = np.nan
    generator = Generator(write_decoder_bundle(tmp_path / "nan", decoder), provider="cpu", threads=1)
    made = [
        new_sequence(generator, [4, 5, 9], name, 12, ignore_eos=True, bad_words=[WORDS[BROKEN]])
        for name in ("north", "south", "north", "south")
    ]
    scheduler = new_scheduler(generator)
    scheduler.lookup = OneWord(2, "fp32")
    scheduler.submit(*made[:2])
    while scheduler.busy:
        scheduler.step()
        states = [scheduler.buckets.runner.cache.read(row, 16) for row in range(2)]
        assert all(np.isfinite(array).all() for one in states for array in one.values())
    run(new_scheduler(generator, prompt_lookup=0), *made[2:])
    assert [outcome(one) for one in made[:2]] == [outcome(one) for one in made[2:]]
    assert all(guessed(one) > 10 and not accepted(one) for one in made[:2])


def test_guesses_that_do_not_come_true_are_given_up(generator: Generator) -> None:
    ids = [4, 5, 6, 7, 8, 9, 10]
    text = new_sequence(generator, ids, "north", 40, ignore_eos=True, no_repeat_ngram_size=2)
    run(new_scheduler(generator, prompt_lookup=7), text)
    assert accepted(text) == 0
    assert guessed(text) <= 4, "a few, of the rates that are expected before any is known"


def test_a_batch_of_many_rows_a_beam_search_and_a_prompt_that_is_scored_go_without(generator: Generator) -> None:
    scheduler = eager_scheduler(generator)
    many = [new_sequence(generator, [4, 5, 4, 5], "north", 8) for _ in range(MOST_ROWS + 1)]
    searching = new_sequence(generator, [4, 5, 4, 5], "north", 8, num_beams=3)
    run(scheduler, *many)
    run(scheduler, searching)
    assert not any(guessed(one) for one in (*many, searching))
    scored = [new_sequence(generator, [4, 5, 4, 5, 9], "north", 6, prompt_logprobs=1) for _ in range(2)]
    run(scheduler, scored[0])
    run(new_scheduler(generator, prompt_lookup=0), scored[1])
    assert scored[0].tokens == scored[1].tokens
    assert scored[0].prompt_logprobs == scored[1].prompt_logprobs


def test_a_bundle_of_an_earlier_version_goes_without(decoder: HandComputedDecoder, tmp_path: Path) -> None:
    folder = write_decoder_bundle(tmp_path / "old", decoder, several_positions=False)
    generator = Generator(folder, provider="cpu", threads=1)
    assert generator.scheduler.lookup.most == 0
    text = new_sequence(generator, [4, 5, 4, 5], "north", 8)
    run(generator.scheduler, text)
    assert text.tokens == decoder.greedy([4, 5, 4, 5], "north", 8)
    with pytest.raises(BundleError, match=r"old goes without prompt lookup: its graph gives the logits of one token"):
        Generator(folder, provider="cpu", threads=1, limits=GenerationLimits(prompt_lookup=3))

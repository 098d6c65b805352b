"""Continuous batching over a decoder that is computed by hand: every sequence equals the one generated alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import GenerationFailed
from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.generation.request import SequenceState, cancel
from serve.request_context import RequestContext
from tests.fixtures.hand_computed_decoder import END, NAMES, HandComputedDecoder, write_decoder_bundle
from tests.fixtures.sequences import broken_adapter, new_scheduler, new_sequence, run
from tests.serve.conftest import WORDS

PROMPTS = st.lists(st.integers(3, len(WORDS) - 1), min_size=1, max_size=30)
UNKNOWN = 99
"""A token that the tokenizer may have, and the base has no embedding for."""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(
        st.tuples(PROMPTS, st.sampled_from([*NAMES, "base"]), st.integers(1, 10), st.integers(0, 6)),
        min_size=1,
        max_size=10,
    ),
    rows=st.integers(1, 6),
    chunk=st.integers(1, 50),
    prefix=st.sampled_from([0, 500]),
    tokens=st.integers(48, 300),
)
def test_in_any_mix_every_sequence_is_the_one_computed_by_hand(
    requests: list[tuple[list[int], str, int, int]],
    rows: int,
    chunk: int,
    prefix: int,
    tokens: int,
    generator: Generator,
    decoder: HandComputedDecoder,
) -> None:
    scheduler = new_scheduler(
        generator, max_batch_requests=rows, prefill_chunk=chunk, prefix_tokens=prefix, max_tokens_in_flight=tokens
    )
    sequences = [new_sequence(generator, ids, name, count) for ids, name, count, _ in requests]
    arriving = sorted(range(len(requests)), key=lambda index: requests[index][3])
    step = 0
    while arriving or scheduler.busy:
        while arriving and requests[arriving[0]][3] <= step:
            scheduler.submit(sequences[arriving.pop(0)])
        scheduler.step()
        assert scheduler.buckets.runner.cache.rows * scheduler.buckets.runner.cache.tokens <= tokens
        step += 1
    for sequence, (ids, name, count, _) in zip(sequences, requests, strict=True):
        assert sequence.tokens == decoder.greedy(ids, None if name == "base" else name, count)


def test_logprobs_are_those_of_the_logits_by_hand(generator: Generator, decoder: HandComputedDecoder) -> None:
    sequence = new_sequence(generator, [4, 5, 9], "north", 6, logprobs=3)
    run(new_scheduler(generator), sequence)
    ids = [4, 5, 9]
    for token, entry in zip(sequence.tokens, sequence.logprobs, strict=False):
        logits = decoder.logits(ids, "north").astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum())
        assert entry.chosen == pytest.approx(expected[token], abs=1e-4)
        assert [one for one, _ in entry.top] == np.argsort(-expected)[:3].tolist()
        ids.append(token)


def test_a_seed_draws_the_same_tokens_beside_other_sequences(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    """The tokens are drawn from the distribution that is computed by hand."""
    alone = new_sequence(generator, [4, 5], "south", 7, temperature=2.0, top_k=5, seed=3)
    scheduler = new_scheduler(generator)
    run(scheduler, alone)
    beside = new_sequence(generator, [4, 5], "south", 7, temperature=2.0, top_k=5, seed=3)
    others = [new_sequence(generator, [6 + index], "north", 9, temperature=1.0, seed=index) for index in range(4)]
    run(scheduler, *others[:2], beside, *others[2:])
    assert beside.tokens == alone.tokens
    ids = [4, 5]
    for token in alone.tokens:
        assert token in np.argsort(-decoder.logits(ids, "south"))[:5]
        ids.append(token)


def test_a_beam_for_each_token_finds_the_most_probable_of_all_pairs(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    def logprobs(ids: list[int]) -> np.ndarray:
        logits = decoder.logits(ids, "west").astype(np.float64)
        found: np.ndarray = logits - np.log(np.exp(logits).sum())
        return found

    tokens = [token for token in range(len(WORDS)) if token != END]
    differing = 0
    for first in range(3, len(WORDS)):
        search = new_sequence(generator, [first], "west", 2, num_beams=len(WORDS), logit_bias={END: -100})
        run(new_scheduler(generator), search)
        pairs = {(a, b): logprobs([first])[a] + logprobs([first, a])[b] for a in tokens for b in tokens}
        assert tuple(search.tokens) == max(pairs, key=lambda pair: pairs[pair])
        differing += search.tokens != decoder.greedy([first], "west", 2)
    assert differing, "for some prompts greedy decoding finds another pair"


def test_a_broken_adapter_fails_alone(generator: Generator, decoder: HandComputedDecoder) -> None:
    scheduler = new_scheduler(generator)
    broken, fine = new_sequence(generator, [4, 5], "north", 9), new_sequence(generator, [4, 5], "south", 9)
    scheduler.submit(broken, fine)
    scheduler.step()
    with broken_adapter(generator, broken):
        run(scheduler)
    assert broken.finish_reason is FinishReason.FAILED and isinstance(broken.error, GenerationFailed)
    assert fine.tokens == decoder.greedy([4, 5], "south", 9)


@pytest.mark.parametrize("places", [[0], [4], [1, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("chunk", [3, 256])
@pytest.mark.parametrize("prefix_tokens", [0, 500])
def test_a_prompt_that_the_runtime_refuses_fails_alone(
    places: list[int], chunk: int, prefix_tokens: int, generator: Generator, decoder: HandComputedDecoder
) -> None:
    """Prefilled with others or by itself, in one piece or several, beside rows that decode."""
    scheduler = new_scheduler(generator, max_batch_requests=6, prefill_chunk=chunk, prefix_tokens=prefix_tokens)
    early = new_sequence(generator, [7, 8], "south", 20)
    scheduler.submit(early)
    scheduler.step()
    prompts = [[4 + index, *[5] * 33, UNKNOWN if index in places else 6, 8] for index in range(5)]
    sequences = [new_sequence(generator, ids, "north", 9) for ids in prompts]
    scheduler.submit(*sequences)
    run(scheduler)
    for index, (sequence, ids) in enumerate(zip(sequences, prompts, strict=True)):
        if index in places:
            assert sequence.finish_reason is FinishReason.FAILED
            assert isinstance(sequence.error, GenerationFailed) and not sequence.tokens
            assert "idx=99 must be within" in str(sequence.error)
        else:
            assert sequence.tokens == decoder.greedy(ids, "north", 9)
    assert early.tokens == decoder.greedy([7, 8], "south", 20)


def test_the_line_of_a_text_that_fails_has_its_request(generator: Generator, caplog: pytest.LogCaptureFixture) -> None:
    scheduler, sequence = new_scheduler(generator), new_sequence(generator, [4, UNKNOWN], "north", 9)
    sequence.request = RequestContext("mine")
    run(scheduler, sequence)
    (line,) = caplog.records
    assert line.message == "a text of adapter north failed"
    assert vars(line)["request"] is sequence.request


def test_a_sequence_has_the_batch_that_it_joined(generator: Generator) -> None:
    scheduler = new_scheduler(generator)
    early = new_sequence(generator, [4, 5], "south", 9)
    scheduler.submit(early)
    scheduler.step()
    late = new_sequence(generator, [4, 5], "north", 9)
    run(scheduler, late)
    assert (early.batch_rows, early.batch_adapters) == (1, ["south"])
    assert (late.batch_rows, late.batch_adapters) == (2, ["north", "south"])
    assert late.begin_time is not None and late.first_token_time is not None
    assert late.submit_time <= late.begin_time <= late.first_token_time


@pytest.mark.parametrize("beams", [1, 2])
def test_a_sequence_whose_next_token_the_runtime_refuses_fails_alone(
    beams: int, decoder: HandComputedDecoder, tmp_path: Path
) -> None:
    """A bias makes it generate the last token, which has a logit and no embedding."""
    last = len(WORDS) - 1
    weights = {**decoder.weights, "embeddings": decoder.weights["embeddings"][:last]}
    folder = write_decoder_bundle(tmp_path / "bundle", HandComputedDecoder(weights, decoder.adapters))
    generator = Generator(folder, provider="cpu", threads=1)

    def others() -> list[SequenceState]:
        return [new_sequence(generator, [4 + at], NAMES[at % 3], 9, logit_bias={last: -100}) for at in range(4)]

    alone = others()
    for sequence in alone:
        run(new_scheduler(generator), sequence)
    beside, bad = others(), new_sequence(generator, [4, 5], "north", 9, logit_bias={last: 100}, num_beams=beams)
    run(new_scheduler(generator), *beside[:2], bad, *beside[2:])
    assert bad.finish_reason is FinishReason.FAILED and isinstance(bad.error, GenerationFailed)
    assert [sequence.tokens for sequence in beside] == [sequence.tokens for sequence in alone]


def test_cancelled_at_any_step_sequences_leave_nothing(generator: Generator) -> None:
    for step in range(12):
        scheduler = new_scheduler(generator, max_batch_requests=2, prefill_chunk=4, prefix_tokens=0)
        sequences = [new_sequence(generator, [4 + index] * 14, NAMES[index % 2], 20) for index in range(4)]
        scheduler.submit(*sequences)
        for _ in range(step):
            scheduler.step()
        cancel(sequences)
        scheduler.step()
        assert not scheduler.busy and not scheduler.buckets.batches[0].tokens_in_flight
        assert all(sequence.finish_reason for sequence in sequences)
        run(scheduler)

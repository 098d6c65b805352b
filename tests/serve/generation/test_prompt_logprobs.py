"""Log probabilities of prompts, and limits of what may come next, over a decoder that is computed by hand."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.errors import InputError
from serve.generated_text import FinishReason, GenerationResult, StreamStart, TextDelta
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import END, HandComputedDecoder
from tests.fixtures.sequences import new_scheduler, new_sequence, run
from tests.serve.conftest import WORDS

PROMPT = [4, 5, 9, 8]


def logprobs(decoder: HandComputedDecoder, ids: list[int], adapter: str | None = "north") -> NDArray[np.float64]:
    logits = decoder.logits(ids, adapter).astype(np.float64)
    found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum())
    return found


def ask(generator: Generator, *prompts: object, **sampling: object) -> list[GenerationResult]:
    async def answers() -> list[GenerationResult]:
        async with AsyncTextGenerator(generator) as engine:
            params = SamplingParams(**sampling)  # type: ignore[arg-type]
            return await engine.generate(
                GenerationRequest(prompts=prompts, adapters=["north"] * len(prompts), sampling=params)  # type: ignore[arg-type]
            )

    return asyncio.run(answers())


def test_each_token_of_a_prompt_has_the_probability_by_hand(generator: Generator, decoder: HandComputedDecoder) -> None:
    """Prompts of several lengths share the batch with a text that is generated meanwhile."""
    prompts = [PROMPT, [6], [10, 9, 8, 7, 6, 5, 4]]
    scored = [new_sequence(generator, ids, "north", 3, prompt_logprobs=2) for ids in prompts]
    beside = new_sequence(generator, [7, 8], "south", 9)
    run(new_scheduler(generator, max_batch_requests=3), *scored, beside)
    assert beside.tokens == decoder.greedy([7, 8], "south", 9)
    for ids, sequence in zip(prompts, scored, strict=True):
        assert sequence.tokens == decoder.greedy(ids, "north", 3)
        assert len(sequence.prompt_logprobs) == len(ids) - 1
        for place, entry in enumerate(sequence.prompt_logprobs, 1):
            expected = logprobs(decoder, ids[:place])
            assert entry.chosen == pytest.approx(expected[ids[place]], abs=1e-4)
            assert [token for token, _ in entry.top] == np.argsort(-expected)[:2].tolist()
            assert entry.rank == np.argsort(-expected).tolist().index(ids[place]) + 1


def test_a_text_behind_a_scored_prompt_is_the_same_text(generator: Generator) -> None:
    """Penalties count the prompt and the text, each as what it is."""
    sampling = {"repetition_penalty": 1.4, "presence_penalty": 0.5, "temperature": 0.7, "seed": 5}
    plain = new_sequence(generator, PROMPT, "north", 8, **sampling)
    scored = new_sequence(generator, PROMPT, "north", 8, prompt_logprobs=0, **sampling)
    run(new_scheduler(generator), plain, scored)
    assert scored.tokens == plain.tokens
    assert scored.text == plain.text


def test_nothing_is_generated_where_no_token_is_asked_for(generator: Generator) -> None:
    for asked in ({}, {"prompt_logprobs": 0}):
        (result,) = ask(generator, PROMPT, max_new_tokens=0, **asked)
        assert (result.text, result.tokens, result.finish_reason) == ("", [], FinishReason.LENGTH)
        assert (list(result.prompt_ids), result.prompt_tokens) == (PROMPT, 4)
        assert result.prompt_text == " ".join(WORDS[token] for token in PROMPT)


def test_the_entries_of_a_prompt_have_its_texts_and_offsets(generator: Generator) -> None:
    (result,) = ask(generator, PROMPT, max_new_tokens=1, prompt_logprobs=1)
    first, *others = result.prompt_logprobs
    assert first is None
    assert [one.token for one in others if one is not None] == PROMPT[1:]
    for one in others:
        assert one is not None and result.prompt_text[one.offset :].strip().startswith(one.text.strip())


def test_named_tokens_take_the_place_of_the_most_probable_ones(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    (result,) = ask(generator, PROMPT, max_new_tokens=1, logprobs=0, logprob_token_ids=[7, 4, 9])
    expected = logprobs(decoder, PROMPT)
    assert [top.token for top in result.logprobs[0].top] == [7, 4, 9]
    assert [top.logprob for top in result.logprobs[0].top] == pytest.approx(expected[[7, 4, 9]].tolist(), abs=1e-4)


def test_an_end_may_be_ignored_forbidden_or_added(generator: Generator, decoder: HandComputedDecoder) -> None:
    ids = next(
        [first, second]
        for first in range(4, len(WORDS))
        for second in range(4, len(WORDS))
        if 1 <= len(decoder.greedy([first, second], "north", 9)) < 6
    )
    natural = decoder.greedy(ids, "north", 9)
    (ended,) = ask(generator, ids, max_new_tokens=9)
    assert (ended.tokens, ended.finish_reason) == (natural, FinishReason.STOP)
    (ignoring,) = ask(generator, ids, max_new_tokens=9, ignore_eos=True)
    assert ignoring.tokens[: len(natural) + 1] == [*natural, END] and len(ignoring.tokens) == 9
    (longer,) = ask(generator, ids, max_new_tokens=9, min_new_tokens=len(natural) + 1)
    assert len(longer.tokens) > len(natural) and END not in longer.tokens
    (shorter,) = ask(generator, ids, max_new_tokens=9, stop_token_ids=[natural[0]])
    assert (shorter.tokens, shorter.finish_reason) == ([], FinishReason.STOP)
    (kept,) = ask(generator, ids, max_new_tokens=9, stop_token_ids=[natural[0]], include_stop_str_in_output=True)
    assert (kept.tokens, kept.text) == ([natural[0]], WORDS[natural[0]])


def test_a_stop_string_may_stay_and_does_not_end_a_text_too_early(generator: Generator) -> None:
    (whole,) = ask(generator, PROMPT, max_new_tokens=6, ignore_eos=True)
    word = whole.text.split()[0]
    (cut,) = ask(generator, PROMPT, max_new_tokens=6, ignore_eos=True, stop=[word])
    assert (cut.text, cut.finish_reason) == ("", FinishReason.STOP)
    (kept,) = ask(generator, PROMPT, max_new_tokens=6, ignore_eos=True, stop=[word], include_stop_str_in_output=True)
    assert (kept.text, kept.finish_reason) == (word, FinishReason.STOP)


def test_forbidden_and_allowed_tokens(generator: Generator, decoder: HandComputedDecoder) -> None:
    best = int(decoder.logits(PROMPT, "north").argmax())
    (without,) = ask(generator, PROMPT, max_new_tokens=6, bad_words=[WORDS[best]], ignore_eos=True)
    assert best not in without.tokens
    (only,) = ask(generator, PROMPT, max_new_tokens=5, allowed_token_ids=[5, 7])
    expected = max((5, 7), key=lambda token: decoder.logits(PROMPT, "north")[token])
    assert only.tokens[0] == expected and set(only.tokens) <= {5, 7}


@pytest.mark.parametrize(
    ("sampling", "message", "field"),
    [
        ({"allowed_token_ids": [99]}, "allowed_token_ids names token 99: there are 0 to 10", "allowed_token_ids"),
        ({"stop_token_ids": [-1]}, "stop_token_ids names token -1", "stop_token_ids"),
        ({"max_new_tokens": 100}, "4 tokens and 100 more never fit", "max_new_tokens"),
        ({"prompt_logprobs": 12}, "prompt_logprobs asks for 12 tokens; there are 11", "prompt_logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(
    sampling: dict[str, object], message: str, field: str, generator: Generator
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        ask(generator, PROMPT, **sampling)
    assert refused.value.field == field


@pytest.mark.parametrize(("ids", "message"), [([], "the prompt is empty"), ([4, 11], "token 11: there are 0 to 10")])
def test_token_ids_are_those_of_the_vocabulary(ids: list[int], message: str, generator: Generator) -> None:
    with pytest.raises(InputError, match=message):
        ask(generator, ids)


def test_texts_are_streamed_side_by_side(generator: Generator) -> None:
    prompts, sampling = [PROMPT, "good bad"], SamplingParams(max_new_tokens=5, n=2, temperature=1.0, seed=1, logprobs=1)
    request = GenerationRequest(prompts=prompts, adapters=["north", "south"], sampling=sampling)

    async def answers() -> tuple[list[object], list[GenerationResult]]:
        async with AsyncTextGenerator(generator) as engine:
            return [event async for event in engine.stream(request)], await engine.generate(request)

    (start, *events), whole = asyncio.run(answers())
    assert isinstance(start, StreamStart) and start.prompt_tokens == 4 + whole[2].prompt_tokens
    results = {event.index: event for event in events if isinstance(event, GenerationResult)}
    assert [results[index] for index in range(4)] == whole
    for index, result in results.items():
        deltas = [event for event in events if isinstance(event, TextDelta) and event.index == index]
        assert "".join(delta.text for delta in deltas) == result.text
        tokens = [token for delta in deltas for token in delta.tokens]
        assert tokens == list(result.tokens[: len(tokens)])
        entries = [entry for delta in deltas for entry in delta.logprobs]
        assert entries == list(result.logprobs[: len(entries)]) and len(entries) == len(tokens)
        assert len(tokens) >= len(result.tokens) - 1


def test_requests_of_a_lower_number_begin_first(generator: Generator) -> None:
    scheduler = new_scheduler(generator, max_batch_requests=1)
    order: list[int] = []
    for number, priority in enumerate([0, 5, -1, 0]):
        sequence = new_sequence(generator, PROMPT, "north", 1)
        sequence.priority, sequence.on_end = priority, lambda number=number: order.append(number)  # type: ignore[misc]
        scheduler.submit(sequence)
    while scheduler.busy:
        scheduler.step()
    assert order == [2, 0, 3, 1]


def test_cached_prompts_are_shared_between_requests_of_one_salt(generator: Generator) -> None:
    prompt = [4 + place % 7 for place in range(40)]
    scheduler = new_scheduler(generator, prefix_tokens=500)
    for salt in ("mine", "mine", "yours"):
        sequence = new_sequence(generator, prompt, "north", 1)
        sequence.cache_salt = salt
        scheduler.submit(sequence)
        while scheduler.busy:
            scheduler.step()
    assert [salt for (_, salt), _ in scheduler.prefix_cache.entries] == ["mine", "yours"]


def test_a_long_prompt_is_cut_so_that_the_text_fits(generator: Generator) -> None:
    """The base reads the whole context, of 48 tokens; 40 of them are to be generated."""

    async def answer() -> GenerationResult:
        async with AsyncTextGenerator(generator) as engine:
            sampling = SamplingParams(max_new_tokens=40, ignore_eos=True)
            prompts = [" ".join(["good", "bad"] * 60)]
            request = GenerationRequest(prompts=prompts, adapters=["base"], sampling=sampling, truncate=True)
            return (await engine.generate(request))[0]

    found = asyncio.run(answer())
    assert (found.prompt_tokens, len(found.tokens)) == (8, 40)


def test_a_prompt_is_cut_to_the_tokens_that_are_asked_for(generator: Generator) -> None:
    async def answer() -> GenerationResult:
        async with AsyncTextGenerator(generator) as engine:
            request = GenerationRequest(prompts=[PROMPT], adapters=["north"], max_prompt_tokens=2)
            return (await engine.generate(request))[0]

    assert list(asyncio.run(answer()).prompt_ids) == PROMPT[-2:]

"""Beam search and encoders through continuous batching, against transformers and against each row alone."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from adamix_train.artifacts.checkpoint import read_card
from serve.errors import InputError
from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.request import SequenceState, sequences_of
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams
from tests.fixtures.generation_banks import NAMES
from tests.fixtures.sequences import greedy_tokens

pytestmark = pytest.mark.slow
CLASSES = {"llama": AutoModelForCausalLM, "t5": AutoModelForSeq2SeqLM}
PROMPT = st.lists(st.integers(3, 19), min_size=1, max_size=40)
SEARCHES = [
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 0.8, "no_repeat_ngram_size": 2},
    {"num_beams": 2, "length_penalty": -0.5, "repetition_penalty": 1.4},
]


@pytest.fixture(scope="module", params=["llama", pytest.param("t5", marks=pytest.mark.slow)])
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, folder_of: Callable[[str], Path]) -> Path:
    return folder_of(family)


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(folder / "bank", provider="cpu", threads=1, slots=2)


def sequences(generator: Generator, ids: list[int], name: str, sampling: SamplingParams) -> list[SequenceState]:
    return generator.sequences([Prompt(ids, generator.registry.find(name))], sampling)


def finish(made: ContinuousBatchScheduler) -> None:
    steps = 0
    while made.busy:
        made.step()
        steps += 1
        assert steps < 2000
        rows = sum(one.sampling.num_beams for one in sequences_of(made.buckets.batches[0].rows))
        assert rows <= made.limits.max_batch_requests
    assert made.buckets.batches[0].bank is not None and not made.buckets.batches[0].bank.in_use


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.tuples(PROMPT, st.sampled_from(NAMES), st.integers(1, 12), st.sampled_from([1, 1, 3])),
        min_size=1,
        max_size=6,
    ),
    rows=st.integers(3, 7),
    chunk=st.integers(1, 60),
)
def test_searches_and_greedy_sequences_share_the_batch_and_stay_what_they_are_alone(
    texts: list[tuple[list[int], str, int, int]], rows: int, chunk: int, generator: Generator
) -> None:
    def write(some: list[tuple[list[int], str, int, int]], **bounds: int) -> list[list[int]]:
        made = ContinuousBatchScheduler(generator.model, GenerationLimits(**bounds))
        begun = [
            sequences(generator, ids, name, SamplingParams(max_new_tokens=count, num_beams=beams))[0]
            for ids, name, count, beams in some
        ]
        for one in begun:
            made.submit(one)
        finish(made)
        assert all(one.finish_reason in (FinishReason.STOP, FinishReason.LENGTH) for one in begun)
        return [one.tokens for one in begun]

    assert write(texts, max_batch_requests=rows, prefill_chunk=chunk) == [
        write([text], prefix_tokens=0)[0] for text in texts
    ]


@pytest.mark.parametrize("asked", SEARCHES, ids=lambda asked: "-".join(map(str, asked.values())))
def test_a_search_finds_what_transformers_finds(
    asked: dict[str, float], family: str, folder: Path, generator: Generator
) -> None:
    prompts = torch.randint(3, 20, (10, 9), generator=torch.Generator().manual_seed(1)).tolist()
    for name in NAMES[:2]:
        card = read_card(folder / name)
        base = CLASSES[family].from_pretrained(card.base, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, folder / name).eval()
        for prompt in prompts:
            with torch.inference_mode():
                found = model.generate(
                    input_ids=torch.tensor([prompt]),
                    max_new_tokens=12,
                    do_sample=False,
                    eos_token_id=2,
                    pad_token_id=0,
                    num_return_sequences=2,
                    **asked,
                ).tolist()
            rows = [row[1:] if family == "t5" else row[len(prompt) :] for row in found]
            expected = [row[: row.index(2)] if 2 in row else row for row in rows]
            sampling = SamplingParams(max_new_tokens=12, n=2, **asked)
            results = generator.generate([Prompt(prompt, generator.registry.find(name))], sampling=sampling)
            assert [result.tokens for result in results] == expected
            assert [result.index for result in results] == [0, 1]


def test_a_sequence_alone_is_that_of_a_static_batch(generator: Generator) -> None:
    for ids in ([4, 5, 2], [7] * 30, [3, 9, 11, 2]):
        for name in NAMES:
            prompt = Prompt(ids, generator.registry.find(name))
            expected = greedy_tokens(generator, prompt, 9)
            assert generator.generate([prompt], max_new_tokens=9)[0].tokens == expected


def test_results_of_one_prompt_are_drawn_with_seeds_of_their_own(generator: Generator) -> None:
    several = generator(
        "a shop", adapter="one", sampling=SamplingParams(n=3, seed=4, temperature=3.0, max_new_tokens=8)
    )
    single = [
        generator("a shop", adapter="one", sampling=SamplingParams(seed=seed, temperature=3.0, max_new_tokens=8))[0]
        for seed in (4, 5, 6)
    ]
    assert several == single
    assert len({tuple(one.tokens) for one in several}) > 1
    with pytest.raises(InputError, match="a stream has one text"):
        next(generator.stream("a shop", adapter="one", sampling=SamplingParams(n=2)))


def test_a_search_that_has_no_room_is_refused(generator: Generator) -> None:
    limits = GenerationLimits(max_batch_requests=3, max_tokens_in_flight=60)
    made = ContinuousBatchScheduler(generator.model, limits)
    with pytest.raises(InputError, match="4 beams needs as many rows; there are 3"):
        made.submit(*sequences(generator, [3], "one", SamplingParams(num_beams=4)))
    with pytest.raises(InputError, match="10 tokens and 20 more, times 3 beams, never fit: 60 tokens may be in flight"):
        made.submit(*sequences(generator, [3] * 10, "one", SamplingParams(num_beams=3, max_new_tokens=20)))
    with pytest.raises(InputError, match="temperature: a beam search goes without"):
        SamplingParams(num_beams=2, temperature=1.0)


def test_a_tokenizer_without_bytes_cannot_follow_a_schema(generator: Generator) -> None:
    with pytest.raises(InputError, match="json_schema cannot be followed with this base"):
        generator("a shop", adapter="one", sampling=SamplingParams(json_schema={"type": "object"}))


def test_captured_steps_of_a_device_give_what_the_host_does(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Three sequences and a search; a batch of five rows is filled up to eight."""
    inputs, greedy = [[4, 5, 6], [7] * 9, [8, 3]], SamplingParams(max_new_tokens=5)
    search = SamplingParams(max_new_tokens=6, num_beams=2)
    found = []
    for on_device in (False, True):
        if on_device:
            request.getfixturevalue("device_paths")
            monkeypatch.setattr("serve.loaded_model.captures_graphs", lambda session: True)
        made = ContinuousBatchScheduler(generator.model, GenerationLimits(max_batch_requests=8))
        rows = [
            *(
                one
                for ids, name in zip(inputs, [*NAMES, NAMES[0]][:3], strict=True)
                for one in sequences(generator, ids, name, greedy)
            ),
            *sequences(generator, [5, 9], NAMES[0], search),
        ]
        made.submit(*rows)
        finish(made)
        assert bool(made.buckets.runner.captured.options) == on_device
        found.append([row.tokens for row in rows])
    assert found[0] == found[1]

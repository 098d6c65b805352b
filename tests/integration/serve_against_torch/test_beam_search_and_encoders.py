"""Beam search and encoders through continuous batching, against transformers and against each row alone."""

from pathlib import Path

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from adamix_train.artifacts.checkpoint import read_card
from serve.errors import InputError
from serve.generation.generator import Generator
from serve.generation.limits import Pool
from serve.generation.prompts import Prompt
from serve.generation.request import Generation
from serve.generation.sampling.params import Sampling
from serve.generation.scheduler import Engine
from tests.adamix_train.conftest import writing_data
from tests.fixtures.generation_banks import NAMES, bank_of_writers

__all__ = ["writing_data"]

CLASSES = {"llama": AutoModelForCausalLM, "t5": AutoModelForSeq2SeqLM}
PROMPT = st.lists(st.integers(3, 19), min_size=1, max_size=40)
SEARCHES = [
    {"beams": 3},
    {"beams": 4, "length_penalty": 0.8, "no_repeat_ngram_size": 2},
    {"beams": 2, "length_penalty": -0.5, "repetition_penalty": 1.4},
]


@pytest.fixture(scope="module", params=CLASSES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory, writing_data: Path) -> Path:
    made = tmp_path_factory.mktemp(family)
    bank_of_writers(family, made, writing_data)
    return made


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(folder / "bank", provider="cpu", threads=1, slots=2)


def generations(generator: Generator, ids: list[int], name: str, sampling: Sampling) -> list[Generation]:
    return generator.generations([Prompt(ids, generator.registry.find(name))], sampling)


def finish(made: Engine) -> None:
    steps = 0
    while made.busy:
        made.step()
        steps += 1
        assert steps < 2000
        assert sum(one.sampling.beams for one in {row.generation for row in made.live}) <= made.pool.rows
    assert made.bank is not None and not made.bank.in_use


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
def test_searches_and_plain_texts_share_the_rows_and_stay_what_they_are_alone(
    texts: list[tuple[list[int], str, int, int]], rows: int, chunk: int, generator: Generator
) -> None:
    def write(some: list[tuple[list[int], str, int, int]], **bounds: int) -> list[list[int]]:
        made = Engine(generator.bundle, generator.session, generator.bank, Pool(**bounds), generator.encoder)
        begun = [
            generations(generator, ids, name, Sampling(max_new_tokens=count, beams=beams))[0]
            for ids, name, count, beams in some
        ]
        for one in begun:
            made.submit(one)
        finish(made)
        assert all(one.ended in ("stop", "length") for one in begun)
        return [one.tokens for one in begun]

    assert write(texts, rows=rows, chunk=chunk) == [write([text], prefix_tokens=0)[0] for text in texts]


@pytest.mark.parametrize("asked", SEARCHES, ids=lambda asked: "-".join(map(str, asked.values())))
def test_a_search_finds_what_transformers_finds(
    asked: dict[str, float], family: str, folder: Path, generator: Generator
) -> None:
    prompts = torch.randint(3, 20, (10, 9), generator=torch.Generator().manual_seed(1)).tolist()
    for name in NAMES[:2]:
        card = read_card(folder / name)
        base = CLASSES[family].from_pretrained(card.base, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, folder / name).eval()
        renamed = {"num_beams" if key == "beams" else key: value for key, value in asked.items()}
        for prompt in prompts:
            with torch.inference_mode():
                found = model.generate(
                    input_ids=torch.tensor([prompt]),
                    max_new_tokens=12,
                    do_sample=False,
                    eos_token_id=2,
                    pad_token_id=0,
                    **renamed,
                )[0].tolist()
            expected = found[1:] if family == "t5" else found[len(prompt) :]
            expected = expected[: expected.index(2)] if 2 in expected else expected
            [written] = generator.write(
                [Prompt(prompt, generator.registry.find(name))], sampling=Sampling(max_new_tokens=12, **asked)
            )
            assert written.tokens == expected


def test_a_text_alone_is_that_of_the_plain_loop(generator: Generator) -> None:
    for ids in ([4, 5, 2], [7] * 30, [3, 9, 11, 2]):
        for name in NAMES:
            prompt = Prompt(ids, generator.registry.find(name))
            [expected], _ = generator._greedy([prompt], 9)
            assert generator.write([prompt], max_new_tokens=9)[0].tokens == expected


def test_answers_to_one_prompt_are_drawn_with_seeds_of_their_own(generator: Generator) -> None:
    several = generator("a shop", adapter="one", sampling=Sampling(n=3, seed=4, temperature=3.0, max_new_tokens=8))
    single = [
        generator("a shop", adapter="one", sampling=Sampling(seed=seed, temperature=3.0, max_new_tokens=8))[0]
        for seed in (4, 5, 6)
    ]
    assert several == single
    assert len({tuple(one.tokens) for one in several}) > 1
    with pytest.raises(InputError, match="a stream has one answer"):
        next(generator.stream("a shop", adapter="one", sampling=Sampling(n=2)))


def test_a_search_that_has_no_room_is_refused(generator: Generator) -> None:
    made = Engine(generator.bundle, generator.session, generator.bank, Pool(rows=3, tokens=60), generator.encoder)
    with pytest.raises(InputError, match="4 beams needs as many rows; there are 3"):
        made.submit(*generations(generator, [3], "one", Sampling(beams=4)))
    with pytest.raises(InputError, match="10 tokens and 20 more, times 3 beams, never fit: 60 tokens may be in flight"):
        made.submit(*generations(generator, [3] * 10, "one", Sampling(beams=3, max_new_tokens=20)))
    with pytest.raises(InputError, match="a beam search goes without temperature"):
        Sampling(beams=2, temperature=1.0)


def test_a_tokenizer_without_bytes_cannot_follow_a_schema(generator: Generator) -> None:
    with pytest.raises(InputError, match="tokenizer cannot follow a schema"):
        generator("a shop", adapter="one", sampling=Sampling(json_schema={"type": "object"}))

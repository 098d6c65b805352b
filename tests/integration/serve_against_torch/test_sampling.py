"""What serve does to logits, against transformers' own processors, which its own tests are without."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from serve.errors import InputError
from serve.generation.sampling.logits import choose, logprobs_of, probabilities, processed
from serve.generation.sampling.params import Sampling

SIZE = 40
TOKENS = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=20)


def logits(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=SIZE) * 3).astype(np.float32)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    prompt=TOKENS,
    tokens=TOKENS,
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, SIZE + 5),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.5),
    penalty=st.floats(0.5, 2),
    ngram=st.integers(0, 4),
)
def test_what_is_left_is_what_transformers_leaves(
    seed: int,
    prompt: list[int],
    tokens: list[int],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    penalty: float,
    ngram: int,
) -> None:
    given_logits = logits(seed)
    steps = [
        RepetitionPenaltyLogitsProcessor(penalty),
        *([NoRepeatNGramLogitsProcessor(ngram)] if ngram else []),
        TemperatureLogitsWarper(temperature),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
        *([MinPLogitsWarper(min_p)] if min_p else []),
    ]
    ids = torch.tensor([[*prompt, *tokens]])
    expected = LogitsProcessorList(steps)(ids, torch.from_numpy(given_logits.copy())[None])[0].softmax(-1).numpy()
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=penalty,
        no_repeat_ngram_size=ngram,
    )
    found = probabilities(processed(given_logits, prompt, tokens, sampling))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_presence_and_frequency_count_what_was_written_and_not_the_prompt() -> None:
    given_logits = logits(1)
    found = processed(given_logits, [1, 2], [2, 5, 5], Sampling(presence_penalty=0.5, frequency_penalty=0.25))
    expected = given_logits.copy()
    expected[2] -= 0.75
    expected[5] -= 1.0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_bias_forces_and_forbids() -> None:
    given_logits = logits(2)
    best = int(given_logits.argmax())
    assert choose(processed(given_logits, [1], [], Sampling(logit_bias={best: -100.0})), Sampling(), rng()) != best
    assert choose(processed(given_logits, [1], [], Sampling(logit_bias={7: 100.0})), Sampling(), rng()) == 7


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({}, []),
        ({"top_k": 8}, [TopKLogitsWarper(8)]),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"min_p": 0.1}, [MinPLogitsWarper(0.1)]),
        ({"top_k": 20, "top_p": 0.9}, [TopKLogitsWarper(20), TopPLogitsWarper(0.9)]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_tokens_are_drawn_as_often_as_transformers_probabilities_say(asked: dict[str, float], steps: list[Any]) -> None:
    """A chi-squared test at one in a thousand, against what transformers' processors leave."""
    given_logits, seen, count = logits(3), [1, 5], 20_000
    warpers = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.2), TemperatureLogitsWarper(3.0), *steps])
    scores = warpers(torch.tensor([seen]), torch.from_numpy(given_logits.copy())[None])[0]
    expected = scores.double().softmax(-1).numpy()
    sampling, random = Sampling(temperature=3.0, repetition_penalty=1.2, **asked), rng(5)
    drawn = np.bincount(
        [choose(processed(given_logits, seen, [], sampling), sampling, random) for _ in range(count)], minlength=SIZE
    )
    assert not drawn[expected == 0].any()
    often = count * expected >= 5  # what is expected less often counts together, as the test asks for
    pairs = [(drawn[often], count * expected[often])]
    if rare := count * expected[~often].sum():
        pairs.append((drawn[~often].sum(keepdims=True), np.array([rare])))
    found, wanted = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert len(found) > 4
    assert chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-40, 1e-300])
def test_temperature_zero_takes_the_likeliest(temperature: float) -> None:
    given_logits, sampling = logits(4), Sampling(temperature=temperature, repetition_penalty=1.1)
    scores = processed(given_logits, [1], [], sampling)
    assert {choose(scores, sampling, rng(seed)) for seed in range(20)} == {int(given_logits.argmax())}


def test_one_stop_text_is_one() -> None:
    assert Sampling(stop="END").stop == ("END",)


def test_logprobs_are_those_of_the_model() -> None:
    given_logits = logits(5)
    expected = torch.from_numpy(given_logits).log_softmax(-1)
    found = logprobs_of(given_logits, 3, 5)
    values, tokens = expected.topk(5)
    assert found.chosen == pytest.approx(expected[3].item(), abs=1e-4)
    assert [token for token, _ in found.likeliest] == tokens.tolist()
    assert [value for _, value in found.likeliest] == pytest.approx(values.tolist(), abs=1e-4)
    assert logprobs_of(given_logits, 3, 0).likeliest == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0: it must be at least 1"),
        ({"temperature": -1.0}, "temperature is -1.0: it must be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0: it must be above 0 and at most 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"presence_penalty": float("nan")}, "presence_penalty is nan"),
        ({"stop": ["x"] * 10_000}, "stop has 10000 texts: give at most 64"),
        ({"stop": [""]}, "none of them empty"),
        ({"logprobs": 21}, "logprobs is 21: it must be 0 to 20"),
        ({"logit_bias": {3: float("nan")}}, "logit_bias has a value that is not a number"),
        ({"seed": -1}, "seed is -1"),
        ({"length_penalty": 1e300}, "length_penalty is 1e\\+300: it must be from -10 to 10"),
        ({"presence_penalty": 2.5}, "presence_penalty is 2.5: it must be from -2 to 2"),
        ({"repetition_penalty": 1e9}, "repetition_penalty is 1000000000.0: it must be from 0.01 to 100"),
        ({"logit_bias": {3: 1e39}}, "not a number from -100 to 100"),
        ({"logit_bias": dict.fromkeys(range(2000), 1.0)}, "logit_bias names 2000 tokens: give at most 1024"),
        ({"logit_bias": {5.5: 1.0}}, "a token that is not its number"),
        ({"stop": ["x" * 300]}, "a text of more than 256 characters"),
        ({"stop": [b"x"]}, "something that is no text"),
        ({"top_k": 2.5}, "top_k is 2.5: it must be of type int"),
        ({"n": True}, "n is True: it must be of type int"),
        ({"temperature": "warm"}, "temperature is 'warm': it must be of type float"),
    ],
)
def test_what_cannot_be_asked_is_said(asked: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**asked)  # type: ignore[arg-type]

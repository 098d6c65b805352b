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

from serve.generation.sampling.draw import draw_place, kept_mass, rank
from serve.generation.sampling.logits import Wanted, process_logits, token_logprobs
from serve.sampling_params import SamplingParams

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
    sampling = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=penalty,
        no_repeat_ngram_size=ngram,
    )
    scores = process_logits(given_logits, prompt, tokens, sampling) / np.float32(temperature)
    np.testing.assert_allclose(probabilities(scores, sampling), expected, atol=1e-4)


def probabilities(scores: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """Return the probabilities with which scores are drawn."""
    ranking = rank(scores)
    kept = kept_mass(ranking, sampling)
    assert kept is not None and kept.least == kept.most
    found = np.zeros(len(scores))
    found[ranking.places] = np.diff(np.minimum(ranking.masses, kept.least), prepend=0) / kept.least
    return found


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
    sampling, random = SamplingParams(temperature=3.0, repetition_penalty=1.2, **asked), rng(5)
    drawn = np.bincount(
        [draw_place(process_logits(given_logits, seen, [], sampling), sampling, random.random()) for _ in range(count)],
        minlength=SIZE,
    )
    assert not drawn[expected == 0].any()
    often = count * expected >= 5  # what is expected less often counts together, as the test asks for
    pairs = [(drawn[often], count * expected[often])]
    if rare := count * expected[~often].sum():
        pairs.append((drawn[~often].sum(keepdims=True), np.array([rare])))
    found, wanted = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert len(found) > 4
    assert chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > 1e-3


def test_logprobs_are_those_of_the_model() -> None:
    given_logits = logits(5)
    expected = torch.from_numpy(given_logits).log_softmax(-1)
    found = token_logprobs(given_logits, 3, Wanted(5))
    values, tokens = expected.topk(5)
    assert found.chosen == pytest.approx(expected[3].item(), abs=1e-4)
    assert [token for token, _ in found.top] == tokens.tolist()
    assert [value for _, value in found.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert token_logprobs(given_logits, 3, Wanted(0)).top == []

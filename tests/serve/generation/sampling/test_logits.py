"""Processed logits, against values computed by hand; the integration tests compare them with transformers'."""

import numpy as np
import pytest

from serve.generation.sampling.logits import (
    apply_warpers,
    log_softmax,
    probabilities,
    process_logits,
    sample_token,
    token_logprobs,
)
from serve.sampling_params import SamplingParams

SIZE = 40


def logits(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=SIZE) * 3).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_presence_and_frequency_count_generated_tokens_and_not_the_prompt() -> None:
    given_logits = logits(1)
    found = process_logits(
        given_logits, [1, 2], [2, 5, 5], SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    )
    expected = given_logits.copy()
    expected[2] -= 0.75
    expected[5] -= 1.0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_bias_forces_and_forbids() -> None:
    given_logits = logits(2)
    best = int(given_logits.argmax())
    assert (
        sample_token(
            process_logits(given_logits, [1], [], SamplingParams(logit_bias={best: -100.0})), SamplingParams(), rng()
        )
        != best
    )
    assert (
        sample_token(
            process_logits(given_logits, [1], [], SamplingParams(logit_bias={7: 100.0})), SamplingParams(), rng()
        )
        == 7
    )


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-40, 1e-300])
def test_temperature_zero_takes_the_likeliest(temperature: float) -> None:
    given_logits, sampling = logits(4), SamplingParams(temperature=temperature, repetition_penalty=1.1)
    scores = process_logits(given_logits, [1], [], sampling)
    assert {sample_token(scores, sampling, rng(seed)) for seed in range(20)} == {int(given_logits.argmax())}


def test_a_token_that_would_complete_a_known_ngram_is_banned() -> None:
    found = process_logits(logits(6), [1, 2, 3, 1], [2], SamplingParams(no_repeat_ngram_size=3))
    assert np.flatnonzero(np.isinf(found)).tolist() == [3]


def test_tokens_that_a_grammar_forbids_are_minus_infinity() -> None:
    allowed = np.zeros(SIZE, bool)
    allowed[[3, 5]] = True
    found = process_logits(logits(7), [1], [], SamplingParams(json_schema={}), allowed)
    assert np.flatnonzero(np.isfinite(found)).tolist() == [3, 5]


def test_warpers_keep_the_most_probable_tokens() -> None:
    scores = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    for params, kept in (
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.7}, [0, 1]),
        ({"top_p": 0.01}, [0]),
        ({"min_p": 0.25}, [0, 1, 2]),
        ({"top_k": 3, "top_p": 0.6}, [0, 1]),
    ):
        found = apply_warpers(scores, SamplingParams(temperature=1.0, **params))  # type: ignore[arg-type]
        assert np.flatnonzero(np.isfinite(found)).tolist() == kept
    np.testing.assert_allclose(apply_warpers(scores, SamplingParams(temperature=2.0)), scores / 2, rtol=1e-6)


def test_logprobs_and_probabilities_are_those_of_the_softmax() -> None:
    given = logits(8)
    expected = np.exp(given.astype(np.float64)) / np.exp(given.astype(np.float64)).sum()
    np.testing.assert_allclose(probabilities(given), expected, rtol=1e-5)
    np.testing.assert_allclose(log_softmax(np.stack([given, given + 5])), np.log([expected, expected]), atol=1e-5)
    found = token_logprobs(given, 3, 2)
    assert found.chosen == pytest.approx(np.log(expected[3]))
    assert [token for token, _ in found.top] == np.argsort(-expected)[:2].tolist()
    assert token_logprobs(given, 3, 0).top == []

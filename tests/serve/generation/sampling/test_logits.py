"""Processed logits, against values computed by hand; the integration tests compare them with transformers'."""

import numpy as np
import pytest

from serve.generation.sampling.logits import Wanted, log_softmax, process_logits, token_logprobs
from serve.sampling_params import SamplingParams

SIZE = 40


def logits(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=SIZE) * 3).astype(np.float32)


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
    assert process_logits(given_logits, [1], [], SamplingParams(logit_bias={best: -100.0})).argmax() != best
    assert process_logits(given_logits, [1], [], SamplingParams(logit_bias={7: 100.0})).argmax() == 7


def test_a_token_that_would_complete_a_known_ngram_is_banned() -> None:
    found = process_logits(logits(6), [1, 2, 3, 1], [2], SamplingParams(no_repeat_ngram_size=3))
    assert np.flatnonzero(np.isinf(found)).tolist() == [3]


def test_tokens_that_a_grammar_forbids_are_minus_infinity() -> None:
    allowed = np.zeros(SIZE, bool)
    allowed[[3, 5]] = True
    found = process_logits(logits(7), [1], [], SamplingParams(json_schema={}), allowed)
    assert np.flatnonzero(np.isfinite(found)).tolist() == [3, 5]


def test_logits_of_some_tokens_are_processed_as_among_all() -> None:
    given, allowed = logits(9), np.arange(SIZE) % 3 > 0
    ids = np.array([2, 3, 5, 8, 13, 21, 39])
    for changed in (
        {"repetition_penalty": 1.5},
        {"presence_penalty": 0.5, "frequency_penalty": 0.25},
        {"logit_bias": {5: -2.0, 6: -1.0, 39: 3.0}},
        {"no_repeat_ngram_size": 1},
    ):
        sampling = SamplingParams(**changed)  # type: ignore[arg-type]
        whole = process_logits(given, [1, 2, 39], [5, 5, 7, 13], sampling, allowed)
        found = process_logits(given[ids], [1, 2, 39], [5, 5, 7, 13], sampling, allowed, ids)
        np.testing.assert_array_equal(found, whole[ids])


def test_logprobs_are_those_of_the_softmax() -> None:
    given = logits(8)
    expected = np.exp(given.astype(np.float64)) / np.exp(given.astype(np.float64)).sum()
    np.testing.assert_allclose(log_softmax(np.stack([given, given + 5])), np.log([expected, expected]), atol=1e-5)
    found = token_logprobs(given, 3, Wanted(2))
    assert found.chosen == pytest.approx(np.log(expected[3]))
    assert [token for token, _ in found.top] == np.argsort(-expected)[:2].tolist()
    assert token_logprobs(given, 3, Wanted(0)).top == []

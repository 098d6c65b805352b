"""Choices from a row's candidates, against those from the whole row."""

from typing import Any

import numpy as np
import pytest

from serve.errors import InputError
from serve.generation.sampling.choice import Candidates, Choice, WholeRow, choose
from serve.generation.sampling.logits import Wanted
from serve.sampling_params import SamplingParams

SIZE, COUNT, DRAWS = 3000, 64, 40
WARPERS: list[dict[str, Any]] = [
    {},
    {"top_k": 40},
    {"top_p": 0.9},
    {"top_p": 0.5},
    {"min_p": 0.05},
    {"min_p": 0.001},
    {"top_k": 50, "top_p": 0.9},
    {"top_p": 0.95, "min_p": 0.02},
]
SHARES = {0.0: 0.99, 0.01: 0.99, 0.3: 0.7, 0.7: 0.5, 1.0: 0.3, 1.5: 0.1, 1e30: 0.0}
"""Temperatures, and how often candidates decide at least, with logits that are less certain than a model's."""
CHANGES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"no_repeat_ngram_size": 2},
    {"logit_bias": {5: -3.0, 7: -100.0}},
    {"json_schema": {}},
]


def logits(seed: int, spread: float = 4.0) -> np.ndarray:
    """Return logits as a decoder in fp16 gives them, many of them equal."""
    return (np.random.default_rng(seed).normal(size=SIZE) * spread).astype(np.float16).astype(np.float32)


def candidates(row: np.ndarray, count: int = COUNT) -> Candidates:
    tokens = np.sort(np.argsort(-row)[:count])
    log_sum_exp = np.float32(np.log(np.exp(row.astype(np.float64)).sum()))
    return Candidates(tokens, row[tokens], float(log_sum_exp), len(row) - count)


def choices(row: np.ndarray, sampling: SamplingParams, seed: int) -> list[Choice]:
    """Return choices after likely tokens, with many draws."""
    random = np.random.default_rng(seed)
    near = np.argsort(-row)[: 2 * COUNT]
    return [
        Choice(
            prompt=random.choice(near, 10).tolist(),
            tokens=random.choice(near, 8).tolist(),
            sampling=sampling,
            likeliest=int(row.argmax()),
            allowed=random.random(SIZE) < 0.3 if sampling.is_constrained else None,
            draw=random.random(),
        )
        for _ in range(DRAWS)
    ]


@pytest.mark.parametrize("temperature", SHARES)
@pytest.mark.parametrize("changes", CHANGES, ids=lambda value: "-".join(value))
def test_what_candidates_decide_is_what_the_whole_row_does(temperature: float, changes: dict[str, Any]) -> None:
    decided = 0
    for seed, warpers in enumerate(WARPERS):
        row = logits(seed)
        sampling = SamplingParams(temperature=temperature, **warpers, **changes)
        for choice in choices(row, sampling, seed):
            found = candidates(row).choose(choice)
            assert found is None or found == WholeRow(row).choose(choice)
            decided += found is not None
    assert decided >= SHARES[temperature] * DRAWS * len(WARPERS)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("warpers", [{"top_k": 40}, {"top_k": COUNT - 1, "top_p": 0.9}, {"top_k": 1}])
def test_fewer_tokens_than_there_are_candidates_are_always_enough(warpers: dict[str, Any], temperature: float) -> None:
    row = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    for choice in choices(row, SamplingParams(temperature=temperature, **warpers), 0):
        assert candidates(row).choose(choice) == WholeRow(row).choose(choice) is not None


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 1.0, "top_k": COUNT + 1},
        {"repetition_penalty": 0.9},
        {"presence_penalty": -0.1},
        {"logit_bias": {3: 1.0}},
        {"logit_bias": dict.fromkeys(range(1024), -100.0)},
    ],
    ids=lambda asked: "-".join(asked),
)
def test_candidates_that_do_not_decide_say_so(asked: dict[str, Any]) -> None:
    row = np.sort(logits(1))[::-1].copy()  # the largest logits are those of the first tokens
    assert candidates(row).choose(choices(row, SamplingParams(**asked), 0)[0]) is None


def test_all_tokens_as_candidates_always_decide() -> None:
    row = logits(2, spread=0.1)
    for choice in choices(row, SamplingParams(temperature=1.5), 2):
        assert candidates(row, SIZE).choose(choice) == WholeRow(row).choose(choice) is not None


def test_draws_from_candidates_are_as_frequent_as_the_models_probabilities() -> None:
    row = logits(3)
    shares = np.exp(row.astype(np.float64)) / np.exp(row.astype(np.float64)).sum()
    sampling, numbers = SamplingParams(temperature=1.0), (np.arange(20_000) + 0.5) / 20_000
    given = candidates(row)
    drawn = [given.choose(Choice(prompt=[], tokens=[], sampling=sampling, likeliest=0, draw=one)) for one in numbers]
    for token in np.argsort(-shares)[:10].tolist():
        assert drawn.count(token) / len(numbers) == pytest.approx(shares[token], abs=3e-4)


def test_logprobs_are_those_of_the_whole_row() -> None:
    row = np.random.default_rng(4).normal(size=SIZE).astype(np.float32)
    token = int(np.argsort(-row)[3])
    found, expected = candidates(row).logprobs(token, Wanted(20)), WholeRow(row).logprobs(token, Wanted(20))
    assert found is not None and expected is not None
    assert found.chosen == pytest.approx(expected.chosen, abs=1e-6)
    assert found.rank == expected.rank == 4
    named = Wanted(0, (token, int(row.argmax())))
    assert [
        one.rank for one in (candidates(row).logprobs(token, named), WholeRow(row).logprobs(token, named)) if one
    ] == [
        4,
        4,
    ]
    assert [one for one, _ in found.top] == [one for one, _ in expected.top]
    assert [value for _, value in found.top] == pytest.approx([value for _, value in expected.top], abs=1e-6)
    assert candidates(row).logprobs(token, Wanted(0)) is not None
    assert (
        candidates(row).logprobs(int(row.argmin()), Wanted(0)) is None
        and candidates(row).logprobs(token, Wanted(COUNT + 1)) is None
    )


def test_the_first_row_that_decides_is_the_last_that_is_asked() -> None:
    row = logits(5)
    (choice, *_) = choices(row, SamplingParams(temperature=1.0, top_k=5, logprobs=2), 0)

    def rows() -> Any:
        yield candidates(row, 4)
        yield candidates(row)
        raise AssertionError("the whole row is not needed")

    token, logprobs = choose(rows(), choice)
    assert token == WholeRow(row).choose(choice) and logprobs is not None
    with pytest.raises(InputError, match="leaves no token"):
        none = SamplingParams(json_schema={})
        choose([WholeRow(row)], Choice(prompt=[], tokens=[], sampling=none, likeliest=0, allowed=np.zeros(SIZE, bool)))

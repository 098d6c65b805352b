"""Draws for many rows at once, against those of one row after another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from serve.generation.sampling.batch_draw import CandidateTable
from serve.generation.sampling.choice import Choice
from serve.sampling_params import SamplingParams

SIZE, COUNT, ROWS = 1000, 48, 400
WARPERS: list[dict[str, Any]] = [
    {},
    {"top_k": 5},
    {"top_k": COUNT - 1},
    {"top_k": COUNT + 1},
    {"top_p": 0.9},
    {"top_p": 0.3},
    {"min_p": 0.1},
    {"min_p": 0.001},
    {"top_k": 20, "top_p": 0.9},
    {"top_p": 0.95, "min_p": 0.02},
]
TEMPERATURES = (0.01, 0.3, 0.7, 1.0, 1.5, 1e30)


def table(spread: float, count: int = COUNT) -> CandidateTable:
    """Return candidates of rows of logits as a decoder in fp16 gives them, many of them equal."""
    logits = (np.random.default_rng(0).normal(size=(ROWS, SIZE)) * spread).astype(np.float16).astype(np.float32)
    tokens = np.argsort(-logits, axis=1)[:, :count]
    sums = np.log(np.exp(logits.astype(np.float64)).sum(1)).astype(np.float32)
    return CandidateTable(tokens, np.take_along_axis(logits, tokens, 1), sums, SIZE - count)


def requests() -> tuple[list[SamplingParams], list[float]]:
    random = np.random.default_rng(1)
    samplings = [
        SamplingParams(temperature=TEMPERATURES[index % len(TEMPERATURES)], **WARPERS[index % len(WARPERS)])
        for index in random.permutation(ROWS)
    ]
    return samplings, random.random(ROWS).tolist()


def one_by_one(given: CandidateTable, samplings: list[SamplingParams], draws: list[float]) -> list[int | None]:
    return [
        given.row(index).choose(
            Choice(prompt=[], tokens=[], sampling=sampling, likeliest=int(given.tokens[index, 0]), draw=draw)
        )
        for index, (sampling, draw) in enumerate(zip(samplings, draws, strict=True))
    ]


@pytest.mark.parametrize("count", [COUNT, SIZE])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 12.0])
def test_rows_draw_what_each_draws_by_itself(spread: float, count: int) -> None:
    given, (samplings, draws) = table(spread, count), requests()
    found = given.draw(range(ROWS), samplings, draws)
    assert found == one_by_one(given, samplings, draws)
    if count == SIZE:
        assert None not in found
    elif spread >= 4:
        assert 0.5 * ROWS < sum(token is not None for token in found) < ROWS


def test_only_the_rows_that_are_asked_are_drawn() -> None:
    given, (samplings, draws) = table(4.0), requests()
    rows = [7, 3, 99]
    expected = given.draw(range(ROWS), samplings, draws)
    asked = given.draw(rows, [samplings[row] for row in rows], [draws[row] for row in rows])
    assert asked == [expected[row] for row in rows]


@pytest.mark.parametrize("asked", [{"temperature": 1.0}, {"temperature": 0.5, "top_k": 3}])
def test_a_row_whose_candidates_are_all_equal_is_not_decided(asked: Mapping[str, Any]) -> None:
    flat = CandidateTable(np.arange(4)[None], np.zeros((1, 4), np.float32), np.array([3.0], np.float32), 16)
    assert flat.draw([0], [SamplingParams(**asked)], [0.5]) == [None]

"""Static batches over a decoder that is computed by hand."""

import numpy as np

from serve.generation.generator import Generator
from serve.generation.model_runner import ModelRunner
from serve.generation.prompts import Prompt
from serve.generation.static_batch import forced_logits, greedy_logits, static_batch
from tests.fixtures.hand_computed_decoder import END, HandComputedDecoder

IDS = [[4, 5], [6], [9, 8, 4, 5, 6]]
NAMES = ["north", "base", "north"]


def prompts(generator: Generator) -> list[Prompt]:
    return [Prompt(ids, generator.find(name)) for ids, name in zip(IDS, NAMES, strict=True)]


def by_hand(decoder: HandComputedDecoder, ids: list[int], name: str) -> np.ndarray:
    return decoder.logits(ids, None if name == "base" else name)


def test_forced_logits_are_those_before_each_given_token(generator: Generator, decoder: HandComputedDecoder) -> None:
    tokens = [[7, 8, 9], [10], [4, 3]]
    found = forced_logits(generator.model, prompts(generator), tokens)
    for ids, name, row, logits in zip(IDS, NAMES, tokens, found, strict=True):
        expected = np.stack([by_hand(decoder, [*ids, *row[:at]], name) for at in range(len(row))])
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_greedy_logits_come_with_the_tokens_and_the_one_that_ends_them(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    tokens, found = greedy_logits(generator.model, prompts(generator), max_new_tokens=9)
    for ids, name, row, logits in zip(IDS, NAMES, tokens, found, strict=True):
        expected = decoder.greedy(ids, None if name == "base" else name, 9)
        assert row == expected if len(expected) == 9 else row == [*expected, END]
        for at, step in enumerate(logits):
            np.testing.assert_allclose(step, by_hand(decoder, [*ids, *row[:at]], name), atol=1e-4)


def test_a_static_batch_runs_on_the_runner_that_serves(generator: Generator) -> None:
    with static_batch(generator.model, prompts(generator), max_new_tokens=2) as batch:
        assert type(batch.runner) is type(generator.scheduler.buckets.runner) is ModelRunner
        assert generator.bank is not None and generator.bank.in_use, "adapters keep their slots"
        kept = batch.logits
        before = kept.copy()
        batch.append([4, 5, 6])
        np.testing.assert_array_equal(kept, before, "logits of earlier steps stay")
    assert not generator.bank.in_use

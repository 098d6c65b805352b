"""Runs over rows of the KV cache, against the decoder that is computed by hand."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from serve.generation.generator import Generator
from serve.generation.model_runner import ModelRunner
from tests.fixtures.hand_computed_decoder import HandComputedDecoder


@dataclass
class Row:
    """A row of the base model."""

    total_tokens: int
    source: list[int] = field(default_factory=list)
    slot: int = 0


@pytest.fixture
def runner(generator: Generator) -> ModelRunner:
    made = ModelRunner(generator.model, max_tokens=200)
    made.reserve(4, tokens=10, source_tokens=0)
    return made


def test_a_prompt_may_be_run_in_parts(runner: ModelRunner, decoder: HandComputedDecoder) -> None:
    ids = [4, 5, 6, 9]
    for first in (0, 2):
        runner.run([ids[:3]], [Row(3)], first=first)
        found = runner.run([ids[3:]], [Row(4)], first=first)
        np.testing.assert_allclose(found.all()[0], decoder.logits(ids, None), atol=1e-4)


def test_a_moved_row_goes_on_where_it_was(runner: ModelRunner, decoder: HandComputedDecoder) -> None:
    runner.run([[4, 5], [6, 7]], [Row(2), Row(2)], first=0)
    runner.move(1, 0, tokens=2, source_tokens=0)
    np.testing.assert_allclose(
        runner.run([[8]], [Row(3)], first=0).all()[0], decoder.logits([6, 7, 8], None), atol=1e-4
    )


def test_a_cache_that_grows_keeps_what_it_holds(runner: ModelRunner, decoder: HandComputedDecoder) -> None:
    runner.run([[4, 5]], [Row(2)], first=0)
    runner.reserve(5, tokens=40, source_tokens=0)
    np.testing.assert_allclose(
        runner.run([[8]], [Row(3)], first=0).all()[0], decoder.logits([4, 5, 8], None), atol=1e-4
    )


def test_bindings_are_reused_until_memory_moves(runner: ModelRunner) -> None:
    runner.run([[4, 5]], [Row(2)], first=0)
    kept = runner.bindings[1, 1]
    runner.run([[6]], [Row(3)], first=0)
    assert runner.bindings[1, 1] is kept
    runner.reserve(5, tokens=40, source_tokens=0)
    runner.run([[7]], [Row(4)], first=0)
    assert runner.bindings[1, 1] is not kept

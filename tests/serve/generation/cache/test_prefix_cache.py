"""Cached prefixes: the longest of the same adapter is found, and the cache stays within its bound."""

import numpy as np

from serve.generation.cache.prefix_cache import MIN_PREFIX, PrefixCache
from serve.generation.generator import Generator
from serve.runtime.buffers import States
from tests.fixtures.hand_computed_decoder import HandComputedDecoder
from tests.fixtures.sequences import new_scheduler, new_sequence, run

SHARED = [3 + index % 7 for index in range(MIN_PREFIX + 2)]


def states(value: float) -> States:
    return {"0.key": np.full((1, 1, 1), value)}


def test_the_longest_beginning_of_the_same_adapter_is_found(generator: Generator) -> None:
    cache = PrefixCache(1000)
    for value, ids in enumerate((SHARED[:MIN_PREFIX], SHARED, [9, *SHARED])):
        cache.add(new_sequence(generator, ids, "north"), states(value))
    found = cache.find(new_sequence(generator, [*SHARED, 9, 9], "north"))
    assert found is not None and found.tokens == len(SHARED) and found.states["0.key"].item() == 1
    assert cache.find(new_sequence(generator, [*SHARED, 9, 9], "south")) is None, "other adapters have other states"
    assert cache.find(new_sequence(generator, SHARED[: MIN_PREFIX - 1], "north")) is None


def test_all_tokens_but_the_last_are_covered_at_most(generator: Generator) -> None:
    cache = PrefixCache(1000)
    cache.add(new_sequence(generator, SHARED, "north"), states(0))
    found = cache.find(new_sequence(generator, SHARED, "north"))
    assert found is not None and found.tokens == len(SHARED) - 1


def test_the_least_recently_used_prefix_is_dropped_first(generator: Generator) -> None:
    cache = PrefixCache(2 * len(SHARED))
    prompts = [[first, *SHARED[1:]] for first in (4, 5, 6)]
    for value, ids in enumerate(prompts[:2]):
        cache.add(new_sequence(generator, ids, "north"), states(value))
    assert cache.find(new_sequence(generator, [*prompts[0], 9], "north"))
    cache.add(new_sequence(generator, prompts[2], "north"), states(2))
    assert sum(len(tokens) for _, tokens in cache.entries) <= cache.max_tokens
    kept = [bool(cache.find(new_sequence(generator, [*ids, 9], "north"))) for ids in prompts]
    assert kept == [True, False, True]


def test_a_prompt_is_kept_unless_it_is_short_or_cached_or_too_long(generator: Generator) -> None:
    cache = PrefixCache(MIN_PREFIX + 4)
    sequence = new_sequence(generator, SHARED, "north")
    assert cache.wants(sequence)
    assert not cache.wants(new_sequence(generator, SHARED[: MIN_PREFIX - 1], "north"))
    assert not cache.wants(new_sequence(generator, [*SHARED, 4, 4, 4], "north"))
    cache.add(sequence, states(0))
    assert not cache.wants(new_sequence(generator, [*SHARED, 4], "north"))
    assert cache.wants(new_sequence(generator, SHARED, "south"))


def test_a_prompt_that_waits_for_the_prefix_of_another_is_generated_as_by_itself(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    scheduler = new_scheduler(generator)
    sequences = [new_sequence(generator, [*SHARED, last], "north", 5) for last in (4, 5, 6)]
    assert scheduler.prefix_cache.shares_prefix(sequences[1], sequences[:1])
    run(scheduler, *sequences)
    assert len(scheduler.prefix_cache.entries) == 1
    for sequence in sequences:
        assert sequence.tokens == decoder.greedy(list(sequence.prompt), "north", 5)

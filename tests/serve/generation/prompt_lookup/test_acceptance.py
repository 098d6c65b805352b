"""Guesses are made where they have come true, and given up where they have not."""

import pytest

from serve.generation.prompt_lookup.acceptance import Acceptance
from serve.generation.prompt_lookup.ngrams import Continuation

GUESS = Continuation([5, 6, 7], 2)


def test_the_tokens_expected_are_sums_of_products_of_the_rates() -> None:
    rates = Acceptance()
    first, further = rates.first[1].value, rates.further[1].value
    expected = [1, 1 + first, 1 + first + first * further, 1 + first + first * further + first * further**2]
    assert rates.expected(GUESS) == pytest.approx(expected)


def test_only_the_rates_of_what_was_seen_change() -> None:
    rates, before = Acceptance(), Acceptance()
    rates.note(GUESS, [5, 9])
    assert rates.first[1].value > before.first[1].value
    assert rates.further[1].value < before.further[1].value, "the second was wrong, and nothing is known of the third"
    assert rates.first[0] == before.first[0]


def test_rates_follow_what_came_lately() -> None:
    rates = Acceptance()
    for _ in range(60):
        rates.note(GUESS, [5, 6, 7])
    assert rates.expected(GUESS)[-1] > 3.7
    for _ in range(60):
        rates.note(GUESS, [4])
    assert rates.expected(GUESS)[-1] < 1.2


def test_a_row_begins_with_the_rates_of_others_and_leaves_them_alone() -> None:
    shared = Acceptance()
    for _ in range(60):
        shared.note(GUESS, [5, 6, 7])
    own = shared.copy()
    assert own.expected(GUESS) == pytest.approx(shared.expected(GUESS))
    own.note(GUESS, [4])
    assert own.first[1].value < shared.first[1].value

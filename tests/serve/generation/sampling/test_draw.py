"""What the warpers keep, by hand; the integration tests compare it with transformers'."""

import numpy as np
import pytest

from serve.generation.sampling import draw
from serve.generation.sampling.draw import Mass, draw_place, kept_mass, rank
from serve.sampling_params import SamplingParams

SCORES = np.log(np.array([0.15, 0.5, 0.1, 0.25], np.float32))
"""Of the tokens 1, 3, 0, 2, most probable first."""


def sampling(**warpers: float) -> SamplingParams:
    return SamplingParams(**{"temperature": 1.0, **warpers})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("warpers", "kept"),
    [
        ({}, 1.0),
        ({"top_k": 2}, 0.75),
        ({"top_k": 9}, 1.0),
        ({"top_p": 0.7}, 0.75),
        ({"top_p": 0.01}, 0.5),
        ({"min_p": 0.25}, 0.9),
        ({"top_k": 3, "top_p": 0.6}, 0.75),
    ],
)
def test_warpers_keep_the_most_probable_scores(warpers: dict[str, float], kept: float) -> None:
    found = kept_mass(rank(SCORES), sampling(**warpers))
    assert found is not None and found.least == found.most == pytest.approx(kept / 0.5)


def test_scores_that_are_equal_to_the_last_of_top_k_are_kept() -> None:
    found = kept_mass(rank(np.zeros(4, np.float32)), sampling(top_k=2))
    assert found == Mass(4.0, 4.0)


def test_a_draw_falls_on_the_scores_in_the_order_of_their_probability() -> None:
    draws = {0.0: 1, 0.49: 1, 0.51: 3, 0.74: 3, 0.76: 0, 0.89: 0, 0.91: 2, np.nextafter(1, 0): 2}
    assert {number: draw_place(SCORES, sampling(), number) for number in draws} == draws
    assert draw_place(SCORES, sampling(top_k=1), np.nextafter(1, 0)) == 1


def test_a_temperature_divides_the_scores() -> None:
    shares = np.array([0.5, 0.25, 0.15, 0.1]) ** 0.5
    place = draw_place(SCORES, sampling(temperature=2.0), shares[0] / shares.sum() - 1e-4)
    assert place == 1 != draw_place(SCORES, sampling(temperature=2.0), shares[0] / shares.sum() + 1e-4)


@pytest.mark.parametrize("warpers", [{}, {"top_k": 40}, {"top_k": 30, "top_p": 0.8}, {"top_p": 0.99}, {"min_p": 0.01}])
def test_a_few_scores_in_order_draw_what_all_do(warpers: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    scores = (random.normal(size=500) * 2).astype(np.float16).astype(np.float32)
    numbers = random.random(200)
    expected = [draw_place(scores, sampling(**warpers), number) for number in numbers]
    monkeypatch.setattr(draw, "RANKED", (32, 128))
    assert [draw_place(scores, sampling(**warpers), number) for number in numbers] == expected


def test_more_equal_scores_than_are_put_in_order_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "RANKED", (4,))
    monkeypatch.setattr(draw, "STRIDE", 1)
    assert {draw_place(np.zeros(8, np.float32), sampling(), number / 8) for number in range(8)} == set(range(8))


def test_the_highest_temperature_draws_from_all_that_is_allowed() -> None:
    scores = np.array([1, -np.inf, 3, 2], np.float32)
    assert [draw_place(scores, sampling(temperature=1e300), number) for number in (0.3, 0.5, 0.99)] == [2, 3, 0]


def test_a_draw_is_decided_where_both_bounds_of_the_others_agree() -> None:
    others = Mass(0.0, 0.2)  # beside 2.0 of the scores, of which the first has 1.0
    floor = float(SCORES.min()) - 1
    found = [draw_place(SCORES, sampling(), number, floor=floor, others=others) for number in (0.2, 0.48, 0.6, 0.99)]
    assert found == [1, None, 3, None]
    assert draw_place(SCORES, sampling(top_k=2), 0.48, floor=floor, others=others) == 1
    assert draw_place(SCORES, sampling(top_k=5), 0.2, floor=floor, others=others) is None

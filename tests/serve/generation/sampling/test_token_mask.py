from collections.abc import Sequence

from serve.generation.sampling.token_mask import TokenMask
from serve.sampling_params import SamplingParams


def allowed(tokens: Sequence[int], words: Sequence[Sequence[int]] = (), **sampling: object) -> list[int]:
    params = SamplingParams(**sampling)  # type: ignore[arg-type]
    mask = TokenMask(params, ends=[2, 3], bad_words=words, vocabulary=6)
    return [token for token, may in enumerate(mask.allowed(tokens)) if may]


def test_only_allowed_tokens_come_next() -> None:
    assert allowed([], allowed_token_ids=[1, 4]) == [1, 4]
    assert allowed([]) == [0, 1, 2, 3, 4, 5]


def test_no_text_ends_before_its_least_length() -> None:
    assert [2 in allowed([0] * count, min_new_tokens=2) for count in range(4)] == [False, False, True, True]
    assert allowed([], min_new_tokens=1) == [0, 1, 4, 5]


def test_the_last_token_of_a_bad_word_does_not_follow_the_others() -> None:
    words = [[4], [1, 5], [0, 1, 2], []]
    assert allowed([], words) == [0, 1, 2, 3, 5]
    assert allowed([1], words) == [0, 1, 2, 3]
    assert allowed([5, 0, 1], words) == [0, 1, 3]
    assert allowed([0, 1, 0], words) == [0, 1, 2, 3, 5]

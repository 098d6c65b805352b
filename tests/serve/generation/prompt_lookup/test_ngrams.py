"""The end of a text is found where it occurred last, and what followed there is what may come next."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from serve.generation.prompt_lookup.ngrams import LONGEST, MOST_MATCHED, Continuation, NgramIndex, token_keys


def matched(before: list[int], tokens: list[int]) -> int:
    """Return the number of last tokens that two texts share, up to the most that is measured."""
    return max(
        size
        for size in range(min(len(before), MOST_MATCHED) + 1)
        if before[len(before) - size :] == tokens[len(tokens) - size :]
    )


def by_hand(tokens: list[int], count: int) -> Continuation | None:
    """Return the continuation by comparing the end with every place."""
    for size in range(min(LONGEST, len(tokens)), 0, -1):
        for at in range(len(tokens) - 1, size - 1, -1):
            if tokens[at - size : at] == tokens[-size:]:
                found = list(tokens)
                for index in range(count):
                    found.append(found[at + index])
                return Continuation(found[len(tokens) :], matched(tokens[:at], tokens))
    return None


@given(tokens=st.lists(st.integers(0, 3), max_size=40), count=st.integers(1, 9), cut=st.integers(0, 40))
def test_the_longest_end_that_occurred_before_is_continued_as_it_was_last(
    tokens: list[int], count: int, cut: int
) -> None:
    index = NgramIndex()
    index.extend(tokens[:cut])
    index.extend(tokens[cut:])
    assert index.continuation(count) == by_hand(tokens, count)


def test_a_word_is_found_with_and_without_its_space() -> None:
    words = ["[", "Blue", "ĠSpice", "ĠBlue", "Ġis", "Ġ"]
    keys = token_keys(Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[")), 6)
    assert keys[1] == keys[3]
    assert len(set(keys)) == 5, "a space alone is no word"
    index = NgramIndex(keys)
    index.extend([0, 1, 2, 4, 3])
    assert index.continuation(2) == Continuation([2, 4], 1)

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from serve.adapter import Adapter
from serve.errors import InputError
from serve.tokens import Texts, pad
from tests.serve.conftest import card, write_tokenizer


def taking(max_length: int) -> Adapter:
    """An adapter that takes so many tokens."""
    return Adapter(card("one", max_length=max_length), {})


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    write_tokenizer(tmp_path / "tokenizer.json")
    return Texts(tmp_path / "tokenizer.json")


def test_a_text_gets_its_special_tokens(texts: Texts) -> None:
    assert texts.row("the bill is late", taking(8), truncate=False).input_ids == [1, 8, 7, 9, 6, 2]


def test_a_long_text_is_refused_or_cut_before_its_last_special_token(texts: Texts) -> None:
    with pytest.raises(InputError, match="more than 4 tokens"):
        texts.row("the bill is late", taking(4), truncate=False)
    assert texts.row("the bill is late", taking(4), truncate=True).input_ids == [1, 8, 7, 2]
    assert len(texts.row("the bill is late", taking(6), truncate=False)) == 6


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u2003"])
def test_an_empty_text_is_refused(texts: Texts, text: str) -> None:
    with pytest.raises(InputError, match="is empty"):
        texts.row(text, taking(8), truncate=True)


def test_a_lone_surrogate_is_refused(texts: Texts) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        texts.row("bad \ud800", taking(8), truncate=True)


def test_rows_are_padded_on_the_right() -> None:
    assert pad([[1], [1, 2, 3]], 7).tolist() == [[1, 7, 7], [1, 2, 3]]


def test_a_pair_has_token_types_and_loses_tokens_of_its_longer_text(texts: Texts) -> None:
    row = texts.row(("good", "the bill is"), taking(8), truncate=False)
    assert row.input_ids == [1, 4, 2, 8, 7, 9, 2]
    assert row.token_type_ids == [0, 0, 0, 1, 1, 1, 1]
    cut = texts.row(("good", "the bill is very late"), taking(7), truncate=True)
    assert cut.input_ids == [1, 4, 2, 8, 7, 9, 2]
    with pytest.raises(InputError, match="more than 7 tokens"):
        texts.row(("good", "the bill is very late"), taking(7), truncate=False)


@pytest.fixture
def from_the_left(tmp_path: Path) -> Texts:
    """A tokenizer that was exported with the direction of its truncation."""
    file = tmp_path / "tokenizer.json"
    write_tokenizer(file)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(512, direction="left")
    tokenizer.save(str(file))
    return Texts(file)


def test_a_long_text_loses_its_beginning_where_the_file_says_so(from_the_left: Texts) -> None:
    assert from_the_left.row("the bill is late", taking(4), truncate=True).input_ids == [1, 9, 6, 2]
    with pytest.raises(InputError, match="more than 4 tokens"):
        from_the_left.row("the bill is late", taking(4), truncate=False)
    assert from_the_left.row("the bill is late", taking(6), truncate=False).input_ids == [1, 8, 7, 9, 6, 2]


@pytest.mark.parametrize(
    ("pair", "ids", "types"),
    [
        (("good", "the bill is very late"), [1, 4, 2, 9, 10, 6, 2], [0, 0, 0, 1, 1, 1, 1]),
        (("the bill is very late", "good"), [1, 9, 10, 6, 2, 4, 2], [0, 0, 0, 0, 0, 1, 1]),
        (("the bill is late", "good bad late bill"), [1, 9, 6, 2, 6, 7, 2], [0, 0, 0, 0, 1, 1, 1]),
    ],
)
def test_a_pair_loses_the_beginning_of_its_longer_text(
    pair: tuple[str, str], ids: list[int], types: list[int], from_the_left: Texts
) -> None:
    row = from_the_left.row(pair, taking(7), truncate=True)
    assert (row.input_ids, row.token_type_ids) == (ids, types)


@pytest.mark.parametrize("overlap", [0, 1])
def test_windows_begin_at_the_beginning_whatever_is_truncated(overlap: int, texts: Texts, from_the_left: Texts) -> None:
    text = "good bad late bill the is very good bad"
    adapter = taking(6)
    assert from_the_left.windows(text, adapter, overlap=overlap) == texts.windows(text, adapter, overlap=overlap)


@pytest.mark.parametrize("pair", [("", "good"), ("good", " ")])
def test_a_pair_with_an_empty_text_is_refused(texts: Texts, pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="is empty"):
        texts.row(pair, taking(8), truncate=True)


def test_windows_cover_a_long_text_and_overlap(texts: Texts) -> None:
    words = [4, 5, 6, 7, 8, 9, 10, 4, 5]
    text = "good bad late bill the is very good bad"
    rows = texts.windows(text, taking(6), overlap=1)
    inner = [row.input_ids[1:-1] for row in rows]
    assert all(row.input_ids[0] == 1 and row.input_ids[-1] == 2 and len(row) <= 6 for row in rows)
    assert inner == [[4, 5, 6, 7], [7, 8, 9, 10], [10, 4, 5]]
    assert inner[0] + [token for part in inner[1:] for token in part[1:]] == words


def test_a_short_text_is_one_window(texts: Texts) -> None:
    (row,) = texts.windows("good", taking(6))
    assert row.input_ids == texts.row("good", taking(6), truncate=False).input_ids


@pytest.mark.parametrize("overlap", [-1, 4, 100])
def test_windows_that_cannot_overlap_so_are_refused(texts: Texts, overlap: int) -> None:
    with pytest.raises(InputError, match=f"cannot overlap by {overlap} tokens: adapter one takes 6, 2 of which are sp"):
        texts.windows("good", taking(6), overlap=overlap)

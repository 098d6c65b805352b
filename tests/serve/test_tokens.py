from pathlib import Path

import pytest

from serve.errors import InputError
from serve.tokens import Texts, pad
from tests.serve.conftest import write_tokenizer


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    write_tokenizer(tmp_path / "tokenizer.json")
    return Texts(tmp_path / "tokenizer.json")


def test_a_text_gets_its_special_tokens(texts: Texts) -> None:
    assert texts.row("the bill is late", adapter="a", max_length=8, truncate=False).input_ids == [1, 8, 7, 9, 6, 2]


def test_a_long_text_is_refused_or_cut_before_its_last_special_token(texts: Texts) -> None:
    with pytest.raises(InputError, match="more than 4 tokens"):
        texts.row("the bill is late", adapter="a", max_length=4, truncate=False)
    assert texts.row("the bill is late", adapter="a", max_length=4, truncate=True).input_ids == [1, 8, 7, 2]
    assert len(texts.row("the bill is late", adapter="b", max_length=6, truncate=False)) == 6


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u2003"])
def test_an_empty_text_is_refused(texts: Texts, text: str) -> None:
    with pytest.raises(InputError, match="is empty"):
        texts.row(text, adapter="a", max_length=8, truncate=True)


def test_a_lone_surrogate_is_refused(texts: Texts) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        texts.row("bad \ud800", adapter="a", max_length=8, truncate=True)


def test_rows_are_padded_on_the_right() -> None:
    assert pad([[1], [1, 2, 3]], 7).tolist() == [[1, 7, 7], [1, 2, 3]]


def test_a_pair_has_token_types_and_loses_tokens_of_its_longer_text(texts: Texts) -> None:
    row = texts.row(("good", "the bill is"), adapter="a", max_length=8, truncate=False)
    assert row.input_ids == [1, 4, 2, 8, 7, 9, 2]
    assert row.token_type_ids == [0, 0, 0, 1, 1, 1, 1]
    cut = texts.row(("good", "the bill is very late"), adapter="a", max_length=7, truncate=True)
    assert cut.input_ids == [1, 4, 2, 8, 7, 9, 2]
    with pytest.raises(InputError, match="more than 7 tokens"):
        texts.row(("good", "the bill is very late"), adapter="a", max_length=7, truncate=False)


@pytest.mark.parametrize("pair", [("", "good"), ("good", " ")])
def test_a_pair_with_an_empty_text_is_refused(texts: Texts, pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="is empty"):
        texts.row(pair, adapter="a", max_length=8, truncate=True)

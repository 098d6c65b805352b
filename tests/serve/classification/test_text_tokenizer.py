import contextlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors

from serve.bundle.adapter import Adapter
from serve.classification.text_tokenizer import EncodedText, TextTokenizer
from serve.errors import InputError
from serve.requests import Text
from tests.serve.conftest import WORDS, card, write_tokenizer

SPECIAL = [("[CLS]", 1), ("[SEP]", 2)]
PROCESSORS = {
    "bert": processors.BertProcessing(*reversed(SPECIAL)),
    "roberta": processors.RobertaProcessing(*reversed(SPECIAL)),
    "template": processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=SPECIAL
    ),
    "end alone": processors.TemplateProcessing(single="$A [SEP]", pair="$A $B:1 [SEP]:1", special_tokens=SPECIAL),
    "none": processors.ByteLevel(),
}
"""Layouts of the special tokens of model families."""


def taking(max_length: int) -> Adapter:
    """An adapter that takes so many tokens."""
    return Adapter(card("one", max_length=max_length), {})


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    write_tokenizer(tmp_path / "tokenizer.json")
    return TextTokenizer(tmp_path / "tokenizer.json")


def test_a_text_gets_its_special_tokens(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("the bill is late", taking(8), truncate=False).input_ids == [1, 8, 7, 9, 6, 2]


def test_a_long_text_is_refused_or_cut_before_its_last_special_token(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InputError, match="more than 4 tokens"):
        tokenizer.encode("the bill is late", taking(4), truncate=False)
    assert tokenizer.encode("the bill is late", taking(4), truncate=True).input_ids == [1, 8, 7, 2]
    assert len(tokenizer.encode("the bill is late", taking(6), truncate=False)) == 6


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u2003"])
def test_an_empty_text_is_refused(tokenizer: TextTokenizer, text: str) -> None:
    with pytest.raises(InputError, match="is empty"):
        tokenizer.encode(text, taking(8), truncate=True)


def test_a_text_without_tokens_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="the tokenizer finds no tokens in the text"):
        TextTokenizer(tmp_path / "tokenizer.json").encode(".", taking(8), truncate=True)
    with pytest.raises(InputError, match="the tokenizer finds no tokens in the text"):
        TextTokenizer(tmp_path / "tokenizer.json").windows(".", taking(8))


def test_a_lone_surrogate_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        tokenizer.encode("bad \ud800", taking(8), truncate=True)


def test_a_pair_has_token_types_and_loses_tokens_of_its_longer_text(tokenizer: TextTokenizer) -> None:
    row = tokenizer.encode(("good", "the bill is"), taking(8), truncate=False)
    assert row.input_ids == [1, 4, 2, 8, 7, 9, 2]
    assert row.token_type_ids == [0, 0, 0, 1, 1, 1, 1]
    cut = tokenizer.encode(("good", "the bill is very late"), taking(7), truncate=True)
    assert cut.input_ids == [1, 4, 2, 8, 7, 9, 2]
    with pytest.raises(InputError, match="more than 7 tokens"):
        tokenizer.encode(("good", "the bill is very late"), taking(7), truncate=False)


@pytest.fixture
def from_the_left(tmp_path: Path) -> TextTokenizer:
    """A tokenizer that was exported with the direction of its truncation."""
    file = tmp_path / "tokenizer.json"
    write_tokenizer(file)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(512, direction="left")
    tokenizer.save(str(file))
    return TextTokenizer(file)


def test_a_long_text_loses_its_beginning_where_the_file_says_so(from_the_left: TextTokenizer) -> None:
    assert from_the_left.encode("the bill is late", taking(4), truncate=True).input_ids == [1, 9, 6, 2]
    with pytest.raises(InputError, match="more than 4 tokens"):
        from_the_left.encode("the bill is late", taking(4), truncate=False)
    assert from_the_left.encode("the bill is late", taking(6), truncate=False).input_ids == [1, 8, 7, 9, 6, 2]


@pytest.mark.parametrize(
    ("pair", "ids", "types"),
    [
        (("good", "the bill is very late"), [1, 4, 2, 9, 10, 6, 2], [0, 0, 0, 1, 1, 1, 1]),
        (("the bill is very late", "good"), [1, 9, 10, 6, 2, 4, 2], [0, 0, 0, 0, 0, 1, 1]),
        (("the bill is late", "good bad late bill"), [1, 9, 6, 2, 6, 7, 2], [0, 0, 0, 0, 1, 1, 1]),
    ],
)
def test_a_pair_loses_the_beginning_of_its_longer_text(
    pair: tuple[str, str], ids: list[int], types: list[int], from_the_left: TextTokenizer
) -> None:
    row = from_the_left.encode(pair, taking(7), truncate=True)
    assert (row.input_ids, row.token_type_ids) == (ids, types)


@pytest.mark.parametrize("overlap", [0, 1])
def test_windows_begin_at_the_beginning_whatever_is_truncated(
    overlap: int, tokenizer: TextTokenizer, from_the_left: TextTokenizer
) -> None:
    text = "good bad late bill the is very good bad"
    adapter = taking(6)
    windows = from_the_left.windows(text, adapter, overlap=overlap)
    assert list(windows) == list(tokenizer.windows(text, adapter, overlap=overlap))


@pytest.mark.parametrize("pair", [("", "good"), ("good", " ")])
def test_a_pair_with_an_empty_text_is_refused(tokenizer: TextTokenizer, pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="is empty"):
        tokenizer.encode(pair, taking(8), truncate=True)


def test_windows_cover_a_long_text_and_overlap(tokenizer: TextTokenizer) -> None:
    words = [4, 5, 6, 7, 8, 9, 10, 4, 5]
    text = "good bad late bill the is very good bad"
    rows = tokenizer.windows(text, taking(6), overlap=1)
    inner = [row.input_ids[1:-1] for row in rows]
    assert all(row.input_ids[0] == 1 and row.input_ids[-1] == 2 and len(row) <= 6 for row in rows)
    assert inner == [[4, 5, 6, 7], [7, 8, 9, 10], [10, 4, 5]]
    assert inner[0] + [token for part in inner[1:] for token in part[1:]] == words


def test_a_short_text_is_one_window(tokenizer: TextTokenizer) -> None:
    (row,) = tokenizer.windows("good", taking(6))
    assert row.input_ids == tokenizer.encode("good", taking(6), truncate=False).input_ids


@pytest.mark.parametrize("overlap", [-1, 4, 100])
def test_windows_that_cannot_overlap_so_are_refused(tokenizer: TextTokenizer, overlap: int) -> None:
    with pytest.raises(InputError, match=f"cannot overlap by {overlap} tokens: adapter one takes 6, 2 of which are sp"):
        tokenizer.windows("good", taking(6), overlap=overlap)


def file_with(folder: Path, processor: processors.PostProcessor) -> Path:
    """Write the tokenizer with its special tokens elsewhere."""
    file = folder / "tokenizer.json"
    write_tokenizer(file)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.post_processor = processor
    tokenizer.save(str(file))
    return file


def of(ids: list[int], type_ids: list[int]) -> tuple[list[int], list[int]]:
    return ids, type_ids


def some(count: int) -> str:
    """A text of so many tokens, a special one's name among them."""
    return " ".join(WORDS[2 + index * 7 % 9] for index in range(count))


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Fail if a block takes more than a megabyte at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("name", PROCESSORS)
def test_windows_are_those_that_the_tokenizer_itself_makes(name: str, tmp_path: Path) -> None:
    file = file_with(tmp_path, PROCESSORS[name])
    tokenizer, truncating = TextTokenizer(file), Tokenizer.from_file(str(file))
    special = truncating.num_special_tokens_to_add(False)
    for longest in (5, 6, 9):
        for overlap in range(longest - special):
            truncating.enable_truncation(longest, stride=overlap)
            for count in range(1, 17):
                first = truncating.encode(some(count))
                expected = [of(part.ids, part.type_ids) for part in (first, *first.overflowing)]
                windows = tokenizer.windows(some(count), taking(longest), overlap=overlap)
                assert [of(row.input_ids, row.token_type_ids) for row in windows] == expected
                assert len(windows) == len(expected)


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_is_cut_off_is_what_the_tokenizer_itself_cuts_off(name: str, tmp_path: Path) -> None:
    file = file_with(tmp_path, PROCESSORS[name])
    tokenizer, truncating = TextTokenizer(file), Tokenizer.from_file(str(file))
    for longest in range(5, 12):
        truncating.enable_truncation(longest)
        for count in range(1, 14):
            for second in range(14):
                text: Text = (some(count), some(second)) if second else some(count)
                expected = truncating.encode(some(count), some(second) if second else None)
                row = tokenizer.encode(text, taking(longest), truncate=True)
                assert of(row.input_ids, row.token_type_ids) == of(expected.ids, expected.type_ids)


def test_windows_are_counted_before_one_is_made(tokenizer: TextTokenizer) -> None:
    """As many as the text has tokens, all but the first few: together they would have two million."""
    text = "good " * 4_000
    with little_memory():
        windows = tokenizer.windows(text, taking(512), overlap=509)
    assert len(windows) == 1 + 4_000 - 510
    assert next(iter(windows)) == EncodedText([1, *[4] * 510, 2], [0] * 512, next(iter(windows)).adapter)


def test_two_long_texts_are_cut_without_a_row_for_each_two_parts_of_them(tokenizer: TextTokenizer) -> None:
    with little_memory():
        row = tokenizer.encode(("good " * 600, "bad " * 600), taking(8), truncate=True)
    assert row.input_ids == [1, 4, 4, 2, 5, 5, 5, 2]

from collections import Counter
from pathlib import Path

import pytest

from adamix_train.errors import DataError
from adamix_train.tasks.examples import Example, hold_out, label_names, read_examples
from adamix_train.tasks.files import read_rows
from adamix_train.tasks.table import TASKS

PLAIN = TASKS["classification"]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",x\n"say ""hi""",y\n'),
        ("a.tsv", 'text\tlabel\none, two\tx\n"say ""hi"""\ty\n'),
        ("a.jsonl", '{"text": "one, two", "label": "x"}\n\n{"text": "say \\"hi\\"", "label": "y"}\n'),
        ("a.CSV", '\ufefftext,label\r\n"one, two",x\r\n"say ""hi""",y\r\n'),
    ],
)
def test_the_same_rows_from_every_format(tmp_path: Path, name: str, content: str) -> None:
    assert read_examples(write(tmp_path, name, content), PLAIN) == [Example("one, two", "x"), Example('say "hi"', "y")]


def test_sst2_has_no_header_and_its_quotes_are_text(tmp_path: Path) -> None:
    file = write(tmp_path, "dev.tsv", 'a " lone quote\t0\nfine\t1\n')
    assert read_examples(file, TASKS["sst2"]) == [Example('a " lone quote', "negative"), Example("fine", "positive")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.txt", "x", r"ends in \.txt; data files end in \.csv, \.tsv, \.jsonl"),
        ("a.csv", "message,label\nx,y\n", "no column 'text' in row 1; its columns are message, label"),
        ("a.csv", "text,label\nx,y\n ,z\n", "the text of row 2 is empty"),
        ("a.csv", "text,label\nx,y\nx, \n", "the label of row 2 is empty"),
        ("a.csv", "text,label\nx,y,z\n", "line 2 has 3 fields, not 2"),
        ("a.csv", 'text,label\n"never closed,y\n', "line 2"),
        ("a.jsonl", '{"text": "x", "label": "y"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "line 1 has null for label"),
        ("a.csv", "text,label,label\nx,y,z\n", "names a column twice: text, label, label"),
        ("a.csv", b"text,label\n\xff\xfe,y\n", "is not UTF-8"),
    ],
)
def test_bad_files_are_told_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content), PLAIN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data file"):
        read_rows(tmp_path / "a.csv", header=None, quoted=True)


def test_a_label_outside_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label '2' is not one of 0 to 1"):
        read_examples(write(tmp_path, "a.tsv", "x\t2\n"), TASKS["sst2"])


def test_a_label_in_one_split_only_is_refused() -> None:
    both = [Example("a", "x"), Example("b", "y")]
    with pytest.raises(DataError, match="in the training data only: 'z'"):
        label_names([*both, Example("c", "z")], both, PLAIN)
    with pytest.raises(DataError, match="in the validation data only: 'z'"):
        label_names(both, [*both, Example("c", "z")], PLAIN)


def test_one_label_is_no_task() -> None:
    with pytest.raises(DataError, match="one label only, 'x'"):
        label_names([Example("a", "x")], [Example("b", "x")], PLAIN)


def test_holding_out_is_stratified_seeded_and_loses_nothing() -> None:
    examples = [Example(f"{label}{index}", label) for label in "xyz" for index in range(20)]
    kept, held = hold_out(examples, share=0.1, seed=0)
    assert Counter(example.label for example in held) == {"x": 2, "y": 2, "z": 2}
    assert sorted((*kept, *held), key=str) == sorted(examples, key=str)
    assert hold_out(examples, share=0.1, seed=0) == (kept, held)
    assert hold_out(examples, share=0.1, seed=1)[1] != held


def test_a_label_with_one_example_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="label 'x' has one example"):
        hold_out([Example("a", "x"), Example("b", "y"), Example("c", "y")], share=0.5, seed=0)

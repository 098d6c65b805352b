import tracemalloc
from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.errors import DataError
from adamix_train.readers.files import READERS, read_rows, stream_rows
from adamix_train.readers.reader import FileFormat
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import one, write

TAB = "\t"
PLAIN = TASKS["classification"]


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
    assert read_examples(write(tmp_path, name, content), PLAIN) == [one("one, two", "x"), one('say "hi"', "y")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.doc", "x", r"ends in \.doc; data files end in \.csv, \.tsv, \.txt, \.jsonl, \.parquet"),
        ("a.csv", "message,label\nx,y\n", "no column 'text' in line 2; its columns are message, label .* --delimiter"),
        ("a.csv", "text,label\nx,y\n ,z\n", "the text of line 3 is empty"),
        ("a.csv", "text,label\nx,y\nx, \n", "the label of line 3 is empty"),
        ("a.csv", "text,label\nx,y,z\n", "line 2 has 3 fields, not 2"),
        ("a.csv", 'text,label\n"never closed,y\n', "line 2"),
        ("a.jsonl", '{"text": "x", "label": "y"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "the label of line 1 is null"),
        ("a.csv", "text,label,label\nx,y,z\n", "names a column twice: text, label, label"),
        ("a.csv", b"text,label\n\xff\xfe,y\n", "is not UTF-8"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content), PLAIN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data file"):
        read_rows(tmp_path / "a.csv", readers=READERS, form=FileFormat())


@pytest.mark.parametrize(("name", "line"), [("a.csv", '"fine, and good",x\n'), ("a.tsv", "fine, and good\tx\n")])
def test_a_file_is_read_as_its_rows_are_asked_for(tmp_path: Path, name: str, line: str) -> None:
    header = f"text{',' if name == 'a.csv' else TAB}label\n"
    rows = stream_rows(write(tmp_path, name, header + line * 20_000), readers=READERS, form=FileFormat())
    tracemalloc.start()
    assert sum(row.values == {"text": "fine, and good", "label": "x"} for row in rows) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000  # the file alone has 340 kB


def test_an_error_in_a_late_row_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    rows = stream_rows(write(tmp_path, "a.csv", "text,label\nx,y\nx\n"), readers=READERS, form=FileFormat())
    assert next(rows).place == "line 2"
    with pytest.raises(DataError, match="line 3 has 1 fields, not 2"):
        next(rows)

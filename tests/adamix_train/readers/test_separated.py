import csv
import io
import logging
from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.errors import DataError
from adamix_train.readers.reader import FileFormat
from adamix_train.readers.separated import separated
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import one, write

PLAIN = TASKS["classification"]
QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def values(file: Path, suffix_delimiter: str = ",", **form: object) -> list[dict[str, str]]:
    return [row.values for row in separated(suffix_delimiter)(file, FileFormat(**form))]


def test_a_mark_that_opens_a_text_of_a_tsv_joins_no_lines(tmp_path: Path) -> None:
    file = write(tmp_path, "a.tsv", 'text\tlabel\n"opens\tpos\nfine\tpos\nshe said "\tneg\n')
    assert read_examples(file, PLAIN) == [one('"opens', "pos"), one("fine", "pos"), one('she said "', "neg")]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.tsv", 'text\tlabel\nfine\tx\n"one\ntwo"\ty\n', 3),
        ("a.tsv", "text\tlabel\nfine\tx\none\rtwo\ty\n", 3),
        ("a.csv", "text,label\nfine,x\none\rtwo,y\n", 3),
        ("a.csv", 'text,label\nfine,x\n"one,y\ntwo,z\n', 3),
    ],
)
def test_a_swallowed_line_end_is_an_error_with_its_line(tmp_path: Path, name: str, content: str, line: int) -> None:
    with pytest.raises(DataError, match=f"line {line}\\b"):
        read_examples(write(tmp_path, name, content), PLAIN)


def test_a_quoted_field_of_a_csv_may_hold_line_ends_and_places_stay_right(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", 'text,label\n"one\ntwo",x\n ,y\n')
    with pytest.raises(DataError, match="text of line 4 is empty"):
        read_examples(file, PLAIN)


def test_lines_of_a_csv_that_look_joined_by_a_mark_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        values(write(tmp_path, "fine.csv", 'text,label\n"one\ntwo",x\n'))
        assert not caplog.records
        values(write(tmp_path, "a.csv", 'text,label\n"opens,pos\nfine,pos\nshe said ",neg\n'))
    assert "lines 2 to 4 are one row" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "text;label\none, two;x\n",
        'sep=;\ntext;label\n"one, two";x\n',
        "text|label\none, two|x\n",
        "text\tlabel\none, two\tx\n",
        'text, label\n"one, two", x\n',
        '"text";"label"\r\n"one, two";"x"\r\n',
    ],
)
def test_the_header_line_tells_the_delimiter(tmp_path: Path, content: str) -> None:
    assert values(write(tmp_path, "a.csv", content)) == [{"text": "one, two", "label": "x"}]


def test_a_tsv_that_has_commas_in_its_texts_is_still_separated_by_tabs(tmp_path: Path) -> None:
    file = write(tmp_path, "a.tsv", "a, long text\tlabel\none, two\tx\n")
    assert values(file, "\t") == [{"a, long text": "one, two", "label": "x"}]


def test_a_named_delimiter_wins(tmp_path: Path) -> None:
    assert values(write(tmp_path, "a.csv", "text,x~label\ngood~y\n"), delimiter="~") == [
        {"text,x": "good", "label": "y"}
    ]


def test_a_wrong_number_of_fields_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2 has 3 fields, not 2 \(separated by commas: .* --delimiter"):
        values(write(tmp_path, "a.csv", "text,label\na,b,c\n"))


def as_glue_reads(content: str) -> list[tuple[str, str, str]]:
    """Return the rows that the loader of GLUE on the Hub yields (nyu-mll/glue, glue.py)."""
    rows = csv.DictReader(io.StringIO(content, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = ("question1", "question2", "is_duplicate")
    found = [tuple(row[column] for column in columns) for row in rows]
    return [row for row in found if None not in row and row[2] != ""]


def test_an_official_qqp_file_is_read_as_its_loader_reads_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        "1\t1\t2\tWho?\tWhere?\t0",
        '2\t3\t4\t"Why so\nlong?"\tWhy?\t1',
        '3\t5\t6\t"What?\tWhat is it"\t1',
        "4\t7\t8\t\tAn empty one?\t0",
        "5\t9\t10\tA lone\rreturn?\tWhen?\t0",
        "6\t11\t12\tOne?\tTwo?\t1\tand more",
        "7\t13\t14\tNo label?\tNone?\t",
    ]
    content = QQP_HEADER + "\n".join(lines) + "\n"
    examples = read_examples(write(tmp_path, "train.tsv", content), TASKS["qqp"])
    labels = TASKS["qqp"].labels or ()
    assert [(*one.texts, str(labels.index(one.target))) for one in examples] == as_glue_reads(content)
    assert len(examples) == 4
    assert "5 rows lack a value and are left out; the first is line 3" in caplog.text


def test_a_header_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the header: field larger than field limit"):
        read_examples(write(tmp_path, "a.csv", "x" * ((1 << 24) + 1) + ",label\na,b\n"), PLAIN)


def test_columns_are_listed_on_one_short_line(tmp_path: Path) -> None:
    header = ",".join(['"a\nb"', *(f"c{number}" for number in range(50))])
    with pytest.raises(DataError, match=r"its columns are 'a\\nb'…, c0, c1.* and 31 more") as error:
        read_examples(write(tmp_path, "a.csv", header + "\n" + ",".join("x" * 51) + "\n"), PLAIN)
    assert "\n" not in str(error.value)

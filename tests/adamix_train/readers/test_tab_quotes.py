import csv
import io

import pytest

from adamix_train.readers.tab_quotes import split_line, uses_quotes

ROWS = [["text", "label"], ["fine", "1"], ['say "hi"', "2"], ["a\ttab", "3"], ["", "4"]]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL])
def test_what_a_csv_writer_wrote_is_read_as_it_was(quoting: int) -> None:
    stream = io.StringIO()
    rows = [[text, float(label) if label.isdecimal() else label] for text, label in ROWS]
    csv.writer(stream, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)
    lines = stream.getvalue().splitlines()
    assert uses_quotes(lines)
    assert [split_line(line)[0] for line in lines] == [text for text, _ in ROWS]


def test_fields_with_commas_are_quoted_by_a_spreadsheet() -> None:
    assert uses_quotes(["text\tlabel", '"one, two"\tx', "fine\ty"])


@pytest.mark.parametrize(
    "lines",
    [
        ["text\tlabel", "no marks\tx"],
        ["text\tlabel", '"opens\tx', 'closes"\ty'],
        ["text\tlabel", '"a quote"\tx', "fine\ty"],
        ["text\tlabel", '"a quote" and more\tx'],
        ["text\tlabel", 'say "hi"\tx'],
        ["text\tlabel", '"one, two"\tx', "three, four\ty"],
    ],
)
def test_marks_that_no_rule_explains_are_text(lines: list[str]) -> None:
    assert not uses_quotes(lines)

from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.data.values import as_text, check_label_types
from adamix_train.errors import DataError
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import write


@pytest.mark.parametrize(
    ("value", "text"), [("1.0", "1.0"), (1, "1"), (1.0, "1"), (2.5, "2.5"), (True, "true"), (10**20, str(10**20))]
)
def test_numbers_are_written_in_one_way(value: object, text: str) -> None:
    assert as_text(value, "label", "line 1", "a.jsonl") == text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x", "label": ["billing", "refund"]}', "label of line 1 is a list; several labels .* multi-label"),
        ('{"text": ["x"], "label": "a"}', "text of line 1 is a list; it takes a text or a number"),
        ('{"text": "x", "label": {"a": 1}}', "label of line 1 is a dict"),
        ('{"text": "good \\ud83d", "label": "a"}', r"text of line 1 holds half a character \('\\ud83d'\)"),
        ('{"text": "x", "label": "\\udc00"}', "label of line 1 holds half a character"),
    ],
)
def test_what_is_no_text_is_named_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, "a.jsonl", row + "\n"), TASKS["classification"])


def test_a_score_may_be_written_in_any_way(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", '{"text": "x", "score": 1}\n{"text": "x", "score": "1.0"}\n')
    assert [example.target for example in read_examples(file, TASKS["regression"])] == ["1", "1.0"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, "1"], r"of several types: a number in line 1 \(1\), a text in line 2 \('1'\)"),
        ([True, "yes"], "of several types: true or false in line 1"),
        (["1", "1.0"], r"labels '1' \(line 1\) and '1\.0' \(line 2\) are one number"),
    ],
)
def test_labels_of_several_types_are_refused(labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_label_types([(label, f"line {number}") for number, label in enumerate(labels, 1)], "a.jsonl")


@pytest.mark.parametrize("labels", [[1, 1.0, 2], ["7", "007", "nan", "x"], ["1", "1 "]])
def test_labels_of_one_type_are_taken(labels: list[object]) -> None:
    check_label_types([(label, "line 1") for label in labels], "a.jsonl")

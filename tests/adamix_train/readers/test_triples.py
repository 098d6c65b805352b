import json
from pathlib import Path
from typing import Any

import pytest

from adamix_train.readers.reader import FileFormat, Reader
from adamix_train.readers.triples import read_dart, read_webnlg, verbalise
from tests.fixtures.example_files import write


def rows(read: Reader, folder: Path, content: Any) -> list[dict[str, Any]]:
    return [row.values for row in read(write(folder, "set.json", json.dumps(content)), FileFormat())]


def triple(subject: str, name: str, thing: str) -> dict[str, str]:
    return {"subject": subject, "property": name, "object": thing}


def test_triples_are_one_line_without_underscores() -> None:
    assert verbalise([["A_B", "born_in", "C"], ["C", "p", "D"]]) == "A B : born in : C | C : p : D"


def test_webnlg_gives_a_row_for_each_text_that_nobody_marked_as_bad(tmp_path: Path) -> None:
    texts = [
        {"comment": "good", "lex": "A p B."},
        {"comment": "bad", "lex": "No."},
        {"comment": "", "lex": "B is A's p."},
    ]
    entries = [
        {"1": {"modifiedtripleset": [triple("A", "p", "B")], "lexicalisations": texts}},
        {"2": {"modifiedtripleset": [triple("C", "q", "D")], "lexicalisations": []}},
    ]
    assert rows(read_webnlg, tmp_path, {"entries": entries}) == [
        {"input": "A : p : B", "target": "A p B."},
        {"input": "A : p : B", "target": "B is A's p."},
    ]


def test_dart_gives_a_row_for_each_annotation(tmp_path: Path) -> None:
    entry = {"tripleset": [["A", "p", "B"]], "annotations": [{"text": "A p B."}, {"text": "B is A's p."}]}
    assert rows(read_dart, tmp_path, [entry]) == [
        {"tripleset": "A : p : B", "target": "A p B."},
        {"tripleset": "A : p : B", "target": "B is A's p."},
    ]


@pytest.mark.parametrize(
    ("read", "content", "name"),
    [
        (read_webnlg, [], "WebNLG"),
        (read_webnlg, {"entries": [{"1": {"modifiedtripleset": [{"subject": "A"}]}}]}, "WebNLG"),
        (read_dart, {"entries": []}, "DART"),
        (read_dart, [{"tripleset": [], "annotations": None}], "DART"),
    ],
)
def test_a_file_of_another_structure_is_refused_with_the_formats_name(
    tmp_path: Path, read: Reader, content: Any, name: str
) -> None:
    with pytest.raises(ValueError, match=f"^the file does not have the structure of {name}: "):
        rows(read, tmp_path, content)

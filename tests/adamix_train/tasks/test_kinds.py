from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.errors import DataError
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import write


@pytest.mark.parametrize("label", ["2", "1" * 5000], ids=["two", "five thousand digits"])
def test_a_label_outside_the_table_is_refused(label: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"label '{label}' is not one of 0 to 1"):
        read_examples(write(tmp_path, "a.tsv", f"x\t{label}\n"), TASKS["sst2"])


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("regression", "a.csv", "text,score\nA,high\n", "line 2: score 'high' is not a finite number"),
        ("regression", "a.csv", "text,score\nA,nan\n", "line 2: score 'nan' is not a finite number"),
        ("generation", "a.csv", "input,target\nA,B\nC, \n", "the target of line 3 is empty"),
        ("web_nlg", "a.json", '{"entries": [{"1": {}}]}', "the file does not have the structure of WebNLG"),
        ("dart", "a.json", "[1]", "the file does not have the structure of DART"),
        ("dart", "a.json", "[", "Expecting value"),
        ("mrpc", "a.txt", "label\tsentence1\nx\ty\n", "no column 'sentence2' in line 2"),
    ],
)
def test_an_error_names_the_row_of_a_bad_target(
    tmp_path: Path, task: str, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content), TASKS[task])

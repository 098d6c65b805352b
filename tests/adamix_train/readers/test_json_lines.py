from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.errors import DataError
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import one, write

PLAIN = TASKS["classification"]


def test_null_in_a_column_that_is_not_read_is_no_error(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", '{"text": "good", "label": "x", "note": null, "tags": ["a"]}\n')
    assert read_examples(file, PLAIN) == [one("good", "x")]


@pytest.mark.parametrize("column", ["text", "label"])
def test_null_in_a_column_that_is_read_names_its_line(tmp_path: Path, column: str) -> None:
    row = {"text": '"good"', "label": '"x"'} | {column: "null"}
    content = '{{"text": "good", "label": "x"}}\n\n{{"text": {text}, "label": {label}}}\n'.format(**row)
    with pytest.raises(DataError, match=f"the {column} of line 3 is null"):
        read_examples(write(tmp_path, "a.jsonl", content), PLAIN)

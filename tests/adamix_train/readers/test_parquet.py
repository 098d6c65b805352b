from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from adamix_train.data.examples import read_examples
from adamix_train.errors import DataError
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import one, write


def test_rows_are_those_that_were_written(tmp_path: Path) -> None:
    columns = {"text": ["good", "bad\nnews"], "label": [1, 0], "note": [None, "n"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet", TASKS["classification"]) == [one("good", "1"), one("bad\nnews", "0")]


def test_a_null_names_its_row(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["good", None], "label": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the text of row 2 is null"):
        read_examples(tmp_path / "a.parquet", TASKS["classification"])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: Parquet magic bytes not found"):
        read_examples(write(tmp_path, "a.parquet", b"PAR1 but no more of it"), TASKS["classification"])


def test_a_page_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    """pyarrow says so by an OSError of several lines."""
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["good"], "label": ["x"]}), file, compression="none")
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * 8 + content[12:])
    with pytest.raises(DataError, match=r"a\.parquet: .*thrift") as error:
        read_examples(file, TASKS["classification"])
    assert "\n" not in str(error.value)

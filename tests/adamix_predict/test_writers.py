import math
from pathlib import Path

import pytest

from adamix_predict.writers import WRITERS, open_writer
from adamix_train.errors import DataError
from adamix_train.readers.files import READERS, read_rows
from adamix_train.readers.reader import FileFormat, Row

VALUES = [{"text": 'say "hi", now', "score": 0.5}, {"text": "a\ttab", "score": 0.25}]


def written(file: Path, values: list[dict], source: str = "in.csv") -> list[dict]:
    with open_writer(file, Path(source), {"score": float}) as write:
        for number, row in enumerate(values, 1):
            write([Row(row, f"row {number}")])
    return [row.values for row in read_rows(file, readers=READERS, form=FileFormat())]


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_are_read_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    found = written(tmp_path / f"out{suffix}", VALUES)
    assert [{**row, "score": float(row["score"])} for row in found] == VALUES


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_comes_late_is_refused_and_nothing_is_written(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="row 2 has the column 'late', which the first row lacks"):
        written(tmp_path / f"out{suffix}", [VALUES[0], {**VALUES[1], "late": "x"}])
    assert list(tmp_path.iterdir()) == []


def test_a_line_end_does_not_go_into_a_tsv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 has a line end in a text, which \.tsv cannot hold"):
        written(tmp_path / "out.tsv", [{"text": "one\ntwo", "score": 1.0}])


def test_json_has_null_for_what_is_not_a_number(tmp_path: Path) -> None:
    assert written(tmp_path / "out.jsonl", [{"a": [math.nan, 1], "b": "\ud800"}]) == [{"a": [None, 1], "b": "\ud800"}]


def test_types_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    source = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"id": pa.array([1, None], pa.int32())}), source)
    written(tmp_path / "out.parquet", [{"id": None, "score": None}, {"id": 7, "score": 0.5}], str(source))
    assert parquet.read_schema(tmp_path / "out.parquet").types == [pa.int32(), pa.float64()]

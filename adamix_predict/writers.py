"""Writers of data files by suffix: chunks of rows in, a whole file or none out."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from adamix_train.artifacts.atomic_write import atomic_file
from adamix_train.errors import DataError
from adamix_train.readers.reader import Row

Write = Callable[[Sequence[Row]], None]
"""Writes the next rows; the first of all has the columns of the file."""
Types = Mapping[str, type]
"""Added column → type of its values."""
Writer = Callable[[Path, Path, Types], AbstractContextManager[Write]]
"""Takes the file to write, the file whose rows these are, and the columns that are added to them."""
CELLS: dict[type, Callable[[Any], Any]] = {bool: json.dumps, list: json.dumps, dict: json.dumps}
"""How values are written between delimiters, where it is not as text."""


def check_suffix(file: Path) -> None:
    """Raise a DataError if no writer has the suffix of a file."""
    if file.suffix.lower() not in WRITERS:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'}; files are written as {', '.join(WRITERS)}")


@contextmanager
def open_writer(out: Path | None, source: Path, types: Types) -> Iterator[Write]:
    """Yield the writer of a file, which is there as a whole when the block ends without an error, or not at all.

    Args:
        out: The file; None writes JSONL to the standard output, as it comes.
        source: The file whose rows these are.
        types: Columns that are added to its own.
    """
    if out is None:
        yield _json_lines(sys.stdout)
        return
    with atomic_file(out) as partial, WRITERS[out.suffix.lower()](partial, source, types) as write:
        yield write


def _json_lines(stream: TextIO) -> Write:
    def write(rows: Sequence[Row]) -> None:
        stream.write("".join(_json(row.values) + "\n" for row in rows))
        stream.flush()

    return write


@contextmanager
def _json_file(file: Path, source: Path, types: Types) -> Iterator[Write]:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        yield _json_lines(stream)


def _json(values: Mapping[str, Any]) -> str:
    """Return a row as JSON: what is not a finite number is null, what JSON does not know is text."""
    try:
        line = json.dumps(values, ensure_ascii=False, allow_nan=False, default=str)
        line.encode()
    except ValueError:  # not a finite number, or half a character, which is written as its code
        return json.dumps(_finite(values), default=str)
    return line


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _separated(delimiter: str, *, one_line: bool = False) -> Writer:
    """Return a writer of fields between delimiters; with `one_line` no field may hold a line end."""

    @contextmanager
    def open_file(file: Path, source: Path, types: Types) -> Iterator[Write]:
        with file.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
            names: list[str] = []

            def write(rows: Sequence[Row]) -> None:
                if not names:
                    names.extend(rows[0].values)
                    table.writerow(names)
                for row in rows:
                    check_columns(row, names)
                    fields = [_cell(row.values.get(name)) for name in names]
                    if one_line and any("\n" in field or "\r" in field for field in fields):
                        raise DataError(
                            f"{row.place} has a line end in a text, which {file.suffixes[0]} cannot hold: write .csv, "
                            ".jsonl or .parquet"
                        )
                    table.writerow(fields)

            yield write

    return open_file


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(CELLS.get(type(value), str)(value))


def check_columns(row: Row, names: Sequence[str]) -> None:
    """Raise a DataError if a row has a column that a table of the columns `names` has no place for."""
    if strange := [name for name in row.values if name not in names]:
        raise DataError(
            f"{row.place} has the column {strange[0]!r}, which the first row lacks: write .jsonl, whose rows may have "
            "different columns"
        )


@contextmanager
def _parquet(file: Path, source: Path, types: Types) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"writing Parquet needs pyarrow ({error}): pip install pyarrow") from error
    kinds = {str: pa.string(), float: pa.float64()}
    opened: list[Any] = []

    def schema_of(rows: Sequence[Row]) -> Any:
        found = pa.Table.from_pylist([row.values for row in rows]).schema
        own = parquet.read_schema(source) if source.suffix.lower() == ".parquet" else pa.schema([])
        known = {**{name: own.field(name).type for name in own.names}, **{name: kinds[types[name]] for name in types}}
        guessed = {field.name: pa.string() if pa.types.is_null(field.type) else field.type for field in found}
        return pa.schema([(name, known.get(name, guessed.get(name))) for name in rows[0].values])

    def write(rows: Sequence[Row]) -> None:
        try:
            if not opened:
                opened.append(parquet.ParquetWriter(file, schema_of(rows)))
            for row in rows:
                check_columns(row, opened[0].schema.names)
            opened[0].write_table(pa.Table.from_pylist([row.values for row in rows], opened[0].schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"the rows from {rows[0].place} to {rows[-1].place} do not have the types of a Parquet file ({error}): "
                "write .jsonl"
            ) from error

    try:
        yield write
    finally:
        for table in opened:
            table.close()


WRITERS: dict[str, Writer] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t", one_line=True),
    ".jsonl": _json_file,
    ".parquet": _parquet,
}
"""File suffix → writer."""

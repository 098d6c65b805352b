"""Read rows of named columns from CSV, TSV and JSONL files."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

from adamix_train.errors import DataError

Row = dict[str, str]
Header = tuple[str, ...] | None
Reader = Callable[[TextIO, Header, bool], Iterator[Row]]
"""Takes an open file, column names if the file has no header line, and true if quotation marks are syntax."""
csv.field_size_limit(1 << 24)


def read_rows(file: Path, *, readers: Mapping[str, Reader], header: Header, quoted: bool) -> list[Row]:
    """Return the rows of a file as column → text; the suffix selects the reader.

    `header` names the columns of a file without a header line; `quoted` makes quotation marks syntax.

    Raises:
        DataError: the file is missing, empty, malformed or not UTF-8; the message names the line.
    """
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'}; data files end in {', '.join(readers)}")
    if not file.is_file():
        raise DataError(f"there is no data file {file}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(reader(stream, header, quoted))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: {error}") from error
    if not rows:
        raise DataError(f"{file} has no rows")
    return rows


def _separated(delimiter: str) -> Reader:
    def read(stream: TextIO, header: Header, quoted: bool) -> Iterator[Row]:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        lines = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=quoted)
        try:
            columns = header or tuple(next(lines, ()))
            if len(set(columns)) < len(columns):
                raise ValueError(f"the header names a column twice: {', '.join(columns)}")
            for fields in lines:
                if not fields or tuple(fields) == header:
                    continue
                if len(fields) != len(columns):
                    raise ValueError(f"line {lines.line_num} has {len(fields)} fields, not {len(columns)}")
                yield dict(zip(columns, fields, strict=True))
        except csv.Error as error:
            raise ValueError(f"line {lines.line_num}: {error}") from error

    return read


def _json_lines(stream: TextIO, header: Header, quoted: bool) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        if empty := [name for name, value in row.items() if value is None]:
            raise ValueError(f"line {number} has null for {', '.join(empty)}")
        yield {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}


READERS: dict[str, Reader] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".txt": _separated("\t"),
    ".jsonl": _json_lines,
}

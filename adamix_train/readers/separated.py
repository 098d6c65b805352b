"""Read rows from files whose fields are separated by a character: CSV, TSV, and what is named so."""

import csv
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from adamix_train.readers.reader import FileFormat, FileLines, Reader, Row, listed
from adamix_train.readers.tab_quotes import split_line, uses_quotes

csv.field_size_limit(1 << 24)
TAB = "\t"
DELIMITERS = {",": "commas", ";": "semicolons", TAB: "tabs", "|": "bars"}
"""Delimiters that are recognised → their names."""
EXCEL = "sep="
"""Beginning of a first line that names the delimiter."""
logger = logging.getLogger(__name__)


def separated(suffix_delimiter: str) -> Reader:
    """Return a reader of files that are separated by `suffix_delimiter`, unless their first line says another."""

    def read(file: Path, form: FileFormat) -> Iterator[Row]:
        try:
            yield from read_lines(file, form)
        except csv.Error as error:  # of the line that says what the others are
            raise ValueError(f"the header: {error}") from error

    def read_lines(file: Path, form: FileFormat) -> Iterator[Row]:
        first = next(iter(FileLines(file)), "")
        start = 0
        delimiter = form.delimiter
        if first.startswith(EXCEL) and len(first.rstrip("\r\n")) == len(EXCEL) + 1:
            start, delimiter = 1, delimiter or first[len(EXCEL)]
        if delimiter is None:
            delimiter = _recognised(first, suffix_delimiter) if form.header is None else suffix_delimiter
        if delimiter == TAB:
            numbered = _tab_separated(file, start, quoted=form.quoted)
        else:
            numbered = _character_separated(file, start, delimiter)
        yield from _rows(numbered, form, delimiter)

    return read


def _recognised(header: str, suffix_delimiter: str) -> str:
    """Return the suffix's own delimiter if it splits the header line, otherwise the one that splits it most."""
    if not header.strip():
        return suffix_delimiter
    counts = {one: len(next(csv.reader([header], delimiter=one))) for one in (suffix_delimiter, *DELIMITERS)}
    return suffix_delimiter if counts[suffix_delimiter] > 1 else max(counts, key=lambda one: counts[one])


def _rows(numbered: Iterator[tuple[int, list[str]]], form: FileFormat, delimiter: str) -> Iterator[Row]:
    columns = form.header
    for number, fields in numbered:
        if columns is None:
            columns = tuple(name.strip() for name in fields)
            if len(set(columns)) < len(columns):
                raise ValueError(f"the header names a column twice: {listed(columns)}")
            continue
        if tuple(fields) == columns:
            continue
        fault = None
        if len(fields) != len(columns) and form.quoted:
            name = DELIMITERS.get(delimiter, repr(delimiter))
            fault = (
                f"line {number} has {len(fields)} fields, not {len(columns)} (separated by {name}: name another "
                "character with --delimiter; a text with such a character in it is quoted in CSV)"
            )
            if not form.keep_malformed:
                raise ValueError(fault)
        missing = [None] * (len(columns) - len(fields))
        yield Row(dict(zip(columns, [*fields, *missing], strict=False)), f"line {number}", fault)


def _tab_separated(file: Path, start: int, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields: one row a line, always."""
    texts = FileLines(file, start, with_ends=False)
    syntax = quoted and uses_quotes(texts)
    for number, line in enumerate(texts, start + 1):
        if line:
            yield number, split_line(line) if syntax else line.split(TAB)


def _character_separated(file: Path, start: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the fields of each record; a quoted field may hold line ends."""
    lines = FileLines(file, start)
    header = next(csv.reader(itertools.islice(lines, 1), delimiter=delimiter), [])
    spaced = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    record: list[str] = []
    records = csv.reader(_kept(lines, record), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    first, warned = start + 1, False
    try:
        for fields in records:
            if fields:
                if len(record) > 1 and not warned:
                    warned = _warn_of_rows(record, first, delimiter, len(header))
                yield first, fields
            first = start + records.line_num + 1
            record.clear()
    except csv.Error as error:
        raise ValueError(f"line {first}: {error}, in the record that begins here") from error


def _kept(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """Yield lines, and append each to the `record` that it belongs to."""
    for line in lines:
        record.append(line)
        yield line


def _warn_of_rows(lines: Sequence[str], first: int, delimiter: str, count: int) -> bool:
    """Warn if a record over several lines looks like several rows, which a single quotation mark has joined."""
    joined = all(line.count(delimiter) == count - 1 for line in lines)
    if joined:
        logger.warning(
            "lines %d to %d are one row, as a quoted field goes on over line ends; each of them looks like a row: if "
            "they are, double the quotation mark in line %d and quote its field",
            first,
            first + len(lines) - 1,
            first,
        )
    return joined

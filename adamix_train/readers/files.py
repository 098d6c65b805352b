"""Read rows of named values from data files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from adamix_train.errors import DataError
from adamix_train.readers.json_lines import read_json_lines
from adamix_train.readers.parquet import read_parquet
from adamix_train.readers.reader import FileFormat, Reader, Row
from adamix_train.readers.separated import separated

READERS: dict[str, Reader] = {
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".txt": separated("\t"),
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}
"""File suffix → reader."""


def read_rows(file: Path, *, readers: Mapping[str, Reader], form: FileFormat) -> list[Row]:
    """Return the rows of a file, as `stream_rows` yields them."""
    return list(stream_rows(file, readers=readers, form=form))


def stream_rows(file: Path, *, readers: Mapping[str, Reader], form: FileFormat) -> Iterator[Row]:
    """Yield the rows of a file as they are read; the suffix selects the reader.

    Raises:
        DataError: the file is missing, empty, malformed or not UTF-8; the message names the line.
    """
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'}; data files end in {', '.join(readers)}")
    if not file.is_file():
        raise DataError(f"there is no data file {file}")
    row = None
    try:
        for row in reader(file, form):
            yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: {error}") from error
    if row is None:
        raise DataError(f"{file} has no rows")

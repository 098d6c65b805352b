"""Read rows from Parquet files with pyarrow, which `datasets` installs."""

from collections.abc import Iterator
from pathlib import Path

from adamix_train.errors import one_line
from adamix_train.readers.reader import FileFormat, Row


def read_parquet(file: Path, form: FileFormat) -> Iterator[Row]:
    """Yield the rows, whose values are Python's; raise ValueError if the file is damaged."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError(f"reading Parquet needs pyarrow ({error}): pip install pyarrow") from error
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"row {number}")
    except (ArrowException, OSError, OverflowError, MemoryError) as error:  # whichever part of the file is damaged
        raise ValueError(f"{f'after row {number}: ' if number else ''}{one_line(error)}") from error

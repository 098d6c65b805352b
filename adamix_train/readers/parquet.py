"""Read rows from Parquet files with pyarrow, which `datasets` installs."""

from collections.abc import Iterator
from pathlib import Path

from adamix_train.readers.reader import FileFormat, Row


def read_parquet(file: Path, form: FileFormat) -> Iterator[Row]:
    """Yield the rows, whose values are Python's; raise ValueError if the file is damaged."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"reading Parquet needs pyarrow ({error}): pip install pyarrow") from error
    with parquet.ParquetFile(file) as table:  # pyarrow's errors about damaged files are ValueErrors
        number = 0
        for batch in table.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(values, f"row {number}")

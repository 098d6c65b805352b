"""Read rows from files with a JSON object on each line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamix_train.readers.reader import FileFormat, Row, open_text


def read_json_lines(file: Path, form: FileFormat) -> Iterator[Row]:
    """Yield the object of each line."""
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = Row(_object(line, number), f"line {number}")
            except ValueError as error:
                if not form.keep_malformed:
                    raise
                row = Row({}, f"line {number}", fault=str(error))
            yield row


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"line {number} is not a JSON object")
    return values

"""Results that a benchmark keeps in a file, so that a later command goes on."""

import json
from pathlib import Path
from typing import TypeVar

from benchmarks.support.errors import BenchmarkError

ResultT = TypeVar("ResultT")


def read_kept(file: Path, kind: type[ResultT], *, what: str) -> list[ResultT]:
    """Return the results of a kind that were kept; none if there is no file.

    Raises:
        BenchmarkError: The file holds something else than results of `what`.
    """
    if not file.is_file():
        return []
    try:
        return [kind(**fields) for fields in json.loads(file.read_text("utf-8"))]
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"{file} holds no results of {what}: {error}") from error

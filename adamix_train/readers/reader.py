"""The reader of a data file: what it takes and what it yields."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

Header = tuple[str, ...] | None
DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|"}
"""Name of a delimiter → the character."""


@dataclass(frozen=True)
class Row:
    """Named values, and where they are."""

    values: dict[str, Any]
    """Column → value as the file has it: a text, or what JSON and Parquet know besides; None where there is none."""
    place: str
    """Place in the file, for errors, such as `line 7`."""
    fault: str | None = None
    """Reason why it is malformed, with its place; None for a whole row."""


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """Properties of a file that it does not state itself."""

    header: Header = None
    """Column names of a file without a header line."""
    quoted: bool = True
    """Quotation marks can be syntax; False reads tab-separated files as GLUE's loader does: they are text, and a row
    may lack its last fields, which are None."""
    delimiter: str | None = None
    """Character between two fields; None decides from the first line."""
    keep_malformed: bool = False
    """Yield a line that is malformed by itself as a row with a `fault`, rather than raise an error."""


Reader = Callable[[Path, FileFormat], Iterator[Row]]
"""Yields the rows of a file; raises ValueError, which names the place, where it is malformed."""


MAX_LISTED, MAX_NAME = 20, 64
"""Columns that an error lists, and characters of each."""


def listed(columns: Iterable[str]) -> str:
    """Return columns as an error lists them: on one line, and not all of many."""
    names = [name if name.isprintable() and len(name) <= MAX_NAME else f"{name[:MAX_NAME]!a}…" for name in columns]
    return ", ".join(names[:MAX_LISTED]) + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")


def open_text(file: Path) -> TextIO:
    """Open a UTF-8 file, with or without a byte order mark, and keep its line ends."""
    return file.open(encoding="utf-8-sig", newline="")


@dataclass(frozen=True)
class FileLines:
    """Lines of a UTF-8 file; each walk over them reads the file anew, and keeps one line in memory."""

    file: Path
    start: int = 0
    """Lines that are left out at the beginning."""
    with_ends: bool = True
    """Keep the line ends."""

    def __iter__(self) -> Iterator[str]:
        with open_text(self.file) as stream:
            for line in itertools.islice(stream, self.start, None):
                yield line if self.with_ends else line.rstrip("\r\n")

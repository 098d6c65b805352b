"""Progress on the standard error stream: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from adamix_cli.line_clock import LineClock

WIDTH = 24
CLEAR = "\r\x1b[K"
"""Begin the line anew."""


class Progress:
    """A bar with the rows so far, their rate, and the time that is left; lines of rows and rate without a terminal."""

    def __init__(self, stream: TextIO, total: Callable[[], int | None]) -> None:
        """Show progress on `stream`; `total` counts all rows, if there is someone to see it."""
        self.stream, self.shown = stream, stream.isatty()
        self.total = total() if self.shown else None
        self.began, self.clock = time.perf_counter(), LineClock()

    def show(self, rows: int) -> None:
        """Draw the bar of so many rows, or write a line if one is due."""
        if not self.shown and not self.clock.is_due():
            return
        rate = rows / max(time.perf_counter() - self.began, 1e-9)
        text = f"{rows:,} rows, {rate:,.0f} rows/s"
        if self.total:
            done = min(1.0, rows / self.total)
            left = max(0, self.total - rows) / max(rate, 1e-9)
            bar = ("#" * round(done * WIDTH)).ljust(WIDTH, ".")
            minutes, seconds = divmod(round(left), 60)
            text = f"[{bar}] {rows:,} of {self.total:,} rows, {rate:,.0f} rows/s, {minutes}:{seconds:02} left"
        self.stream.write(CLEAR + text if self.shown else f"{text}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self.shown:
            self.stream.write(CLEAR)
            self.stream.flush()


def count_rows(file: Path, limit: int | None) -> int | None:
    """Return about how many rows a data file has: those of Parquet, the lines of a text; `limit` if that is fewer."""
    if file.suffix.lower() == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_metadata(file).num_rows
    else:
        with file.open("rb") as stream:
            lines = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
        rows = lines if file.suffix.lower() == ".jsonl" else lines - 1
    return max(1, rows if limit is None else min(rows, limit))

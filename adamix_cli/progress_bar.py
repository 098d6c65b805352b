"""Progress on stderr: tqdm's bar on a terminal or in a notebook, else a line a stage and every ten seconds."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm as best_bar
from tqdm.std import tqdm

from adamix_cli.line_clock import LINE_SECONDS, LineClock

IN_NOTEBOOK = best_bar is not tqdm_asyncio
"""tqdm has a widget in the place of a text."""
LINE = "{l_bar}{bar}[{elapsed}<{remaining}, {rate_fmt}{postfix}]"
COUNT = " {n_fmt}/{total_fmt} "
"""Replacement of the bar in a line."""


def progress_bar(iterable: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """Return tqdm's bar over `iterable`, or one that is updated by hand.

    Args:
        iterable: Elements to count; None for `update`.
        settings: Those of tqdm. `bar_format` keeps its form in a line, with the count in the place of the bar.
    """
    stream = settings.get("file") or sys.stderr
    return (best_bar if stream.isatty() or IN_NOTEBOOK else ProgressLines)(iterable, **settings)


class ProgressLines(tqdm):  # type: ignore[type-arg]
    """tqdm in lines: one every ten seconds, at a new stage and at the end, without carriage returns."""

    def __init__(self, iterable: Iterable[Any] | None = None, **settings: Any) -> None:
        self.clock, self.ended, self.last_line = LineClock(), False, ""
        self.stage = settings.get("desc") or ""
        form = (settings.get("bar_format") or LINE).replace("{bar}", COUNT)
        super().__init__(iterable, **{**settings, "bar_format": form, "mininterval": LINE_SECONDS, "miniters": 1})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if one is due."""
        stage, self.stage = self.stage, (self.desc or "").removesuffix(": ")
        if not self.ended and stage == self.stage and not self.clock.is_due():
            return
        line = str(self) if msg is None else msg
        if line != self.last_line:
            self.fp.write(f"{line}\n")
            self.fp.flush()
        self.last_line = line

    def close(self) -> None:
        """Write the last line, unless nothing was done, as where an error ends the work."""
        if self.disable:
            return
        self.disable, self.ended = True, True
        self._decr_instances(self)  # type: ignore[attr-defined]
        if self.n > self.initial:
            self.display()

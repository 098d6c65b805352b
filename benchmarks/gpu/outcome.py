"""The outcome of a part, as its process hands it over."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.gpu.setting import Setting
from benchmarks.support.report import Absent, Row

WHOLE = "whole"
"""Key of an outcome in its file: False while its part goes on to measure more."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Findings of one part."""

    rows: Sequence[Row] = ()
    """Flat and all with the same keys, in the order of the table's columns."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures of goals, by their keys in `benchmarks.gpu.goals.TARGETS`."""
    absent: Sequence[Absent] = ()
    notes: Sequence[str] = ()
    """Sentences that the table needs to be read rightly."""
    versions: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON has it."""
        return asdict(self)


Measurement = Callable[[Setting], Outcome | Iterator[Outcome]]
"""A part: measures in a process of its own; it may yield outcomes, each of which takes the place of the one before."""

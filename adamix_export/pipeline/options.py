"""The options of an export."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adamix_export.errors import ExportError
from adamix_export.parity.comparison import Check

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an export is checked and where it may write."""

    check: Check = field(default_factory=Check)
    tolerance: float | None = None
    """Largest difference of a logit; None takes the precision's own."""
    most_lost: float | None = None
    """Most that the metric may lose, as in `Bounds`; None takes the precision's own."""
    calibration: Path | None = None
    """Texts that decide how 4-bit weights are rounded; None takes those that the run was trained on."""
    force: bool = False
    """Replace an existing folder."""
    precision: str = "fp32"
    """A key of `PRECISIONS`."""
    slots: int = 0
    """Of a bank: room for this many adapters more, to be loaded later."""

    def __post_init__(self) -> None:
        if self.slots < 0:
            raise ExportError(f"slots is {self.slots}; it must not be negative")

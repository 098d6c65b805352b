"""The options of an export."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adamix_export.errors import ExportError
from adamix_export.parity.bounds import Check

SHAPES = ("merged", "adapter", "bank")
"""merged: one adapter inside the base's graph; adapter: one adapter alone, for a bank; bank: a graph with adapters as
inputs. `pipeline.export.EXPORTS` has a function for each.
"""
Progress = Callable[[str], None]
"""Called with the name of each stage as it begins."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Precision, bounds and output options of an export."""

    check: Check = field(default_factory=Check)
    tolerance: float | None = None
    """Largest difference of a logit; None uses the precision's default."""
    max_metric_drop: float | None = None
    """Largest drop of the metric, as in `Bounds`; None uses the precision's default."""
    calibration: Path | None = None
    """Texts that a precision is calibrated on; None uses the run's training data."""
    approximate: bool = False
    """Some adapters are approximations: `max_metric_drop`, where it is given, stands in for equal labels."""
    force: bool = False
    """Replace an existing folder."""
    precision: str = "fp32"
    """A key of `PRECISIONS`."""
    packed: bool = False
    """Write a graph without padding beside the model's, for GPUs."""
    keep_modules: bool = False
    """Put the modules of each mixture into the bank, beside their mean."""
    slots: int = 0
    """Number of spare slots of a bank, for adapters that are loaded later."""

    def __post_init__(self) -> None:
        if self.slots < 0:
            raise ExportError(f"slots is {self.slots}; it must not be negative")

"""The data that a bundle is compared on, and the differences from PyTorch that are accepted."""

from dataclasses import dataclass, field
from pathlib import Path

ROUNDING = 0.01
"""Share of the tolerance that rounding may cost however small the logits are."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Largest accepted differences between a graph and PyTorch."""

    tolerance: float = 1e-4
    """Largest absolute difference of a logit."""
    relative: float | None = None
    """Largest difference of a logit as a share of the logits' spread; None accepts any."""
    min_agreement: float = 1.0
    """Smallest share of inputs with the same label, or the same greedy tokens, on both sides."""
    max_metric_drop: float | None = None
    """Largest drop of the metric: absolute, but relative for perplexity; None accepts any."""

    def largest_difference(self, spread: float | None) -> float:
        """Return the largest accepted difference of logits with this spread; None if it is not known."""
        if self.relative is None or spread is None:
            return self.tolerance
        return min(self.tolerance, max(self.relative * spread, ROUNDING * self.tolerance))


@dataclass(frozen=True, kw_only=True)
class Check:
    """The comparison of a bundle with PyTorch."""

    data: Path | None = None
    """Labelled texts; None uses each run's own test or validation file."""
    limit: int | None = None
    """Maximum number of texts for each adapter; None uses the task's default."""
    bounds: Bounds = field(default_factory=Bounds)

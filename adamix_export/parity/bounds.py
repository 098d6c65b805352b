"""The data that a bundle is compared on, and the differences from PyTorch that are accepted."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Largest accepted differences between a graph and PyTorch."""

    tolerance: float = 1e-4
    """Largest absolute difference of a logit."""
    min_agreement: float = 1.0
    """Smallest share of inputs with the same label, or the same greedy tokens, on both sides."""
    max_metric_drop: float | None = None
    """Largest drop of the metric: absolute, but relative for perplexity; None accepts any."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The comparison of a bundle with PyTorch."""

    data: Path | None = None
    """Labelled texts; None uses each run's own test or validation file."""
    limit: int | None = None
    """Maximum number of texts for each adapter; None uses the task's default."""
    bounds: Bounds = field(default_factory=Bounds)

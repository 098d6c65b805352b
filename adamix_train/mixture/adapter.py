"""What an adapter is: a small module around one linear layer of the base."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """The sizes of one adapter: those of the layer it adapts, and its own."""

    in_features: int
    out_features: int
    r: int
    """Bottleneck width or rank."""
    lora_alpha: float = 1.0
    """LoRA multiplies its output by `lora_alpha / r`; other kinds ignore it."""
    dropout: float = 0.0


class Adapter(Protocol):
    """The interface of every kind; its projections are called `down` and `up` whatever the kind."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Adapt the output y (batch, …, out) of the base layer whose input was x (batch, …, in)."""

    def fold(self) -> None:
        """Move every constant factor into the (collapsed) weights, in place, so that the weights say it all."""

    def merge(self, base: nn.Linear) -> nn.Module:
        """Return a module that does what `base` and this (collapsed) adapter do together."""

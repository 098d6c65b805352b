"""The sizes that an adapter is made from."""

from dataclasses import dataclass


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

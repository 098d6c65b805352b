"""Sizes from which an adapter is made."""

from dataclasses import dataclass

SHARES = ("up", "down", "none")
"""Projections that the modules of a mixture can share."""


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """Sizes of the adapted layer and of the adapter around it."""

    in_features: int
    out_features: int
    r: int
    """Bottleneck width or rank."""
    lora_alpha: float = 1.0
    """LoRA multiplies its output by `lora_alpha / r`; other kinds ignore it."""
    dropout: float = 0.0
    near_identity: bool = False
    """Initialise a bottleneck's up projection with N(0, 0.0001), not N(0, 0.02): almost no effect at first."""
    blocks: tuple[int, ...] = ()
    """Adapted blocks of a fused layer, whose output is several projections side by side (query, key, value);
    () adapts the whole output."""
    block_count: int = 1
    """Equal blocks in the layer's output; 1 if it is not fused."""

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
    near_identity: bool = False
    """Start a bottleneck with almost no effect instead of the original's N(0, 0.02) in both projections."""
    blocks: tuple[int, ...] = ()
    """Of a layer that computes several things side by side (query, key and value), those that are adapted; () is all
    of its output."""
    block_count: int = 1
    """The number of equal blocks that the layer's output consists of."""

"""Attention as ONNX Runtime's MultiHeadAttention, for families that use transformers' attention interface."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from adamix_export.errors import ExportError

NAME = "onnxruntime_multi_head"
UNIDIRECTIONAL = "unidirectional"
"""Attribute of attention whose tokens see earlier ones alone."""


def multi_head_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Emit com.microsoft.MultiHeadAttention for query (batch, heads, sequence, head width), key and value.

    Key and value may have fewer heads, each of which serves several of the query's. `attention_mask` is the key padding
    mask (batch, sequence); `position_bias` (1, heads, sequence, sequence) is added to the scores. With `sliding_window`
    a token attends to tokens less than that many positions away, on either side; in a causal module on the left alone.

    Raises:
        ExportError: the attention is soft-capped or has sinks, which is not supported here.

    """
    batch, heads, length, width = query.shape
    _refuse(module, {"soft-capped attention": softcap, "attention with sinks": s_aux is not None})
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if getattr(module, "is_decoder", False) and not causal:
        position_bias = None  # zeros: T5's cross-attention has no positions
    bias = _window(query, sliding_window) if sliding_window else position_bias

    attended = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (_flat(query, heads), _flat(key, heads), _flat(value, heads), None, attention_mask, bias),
        attrs={
            "num_heads": heads,
            "scale": float(scaling if scaling is not None else width**-0.5),
            **({UNIDIRECTIONAL: 1} if causal else {}),
        },
        dtype=query.dtype,
        shape=(batch, length, heads * width),
        version=1,
    )
    return attended.reshape(batch, length, heads, width), None


def _flat(states: Tensor, heads: int) -> Tensor:
    """Return states (batch, fewer heads, sequence, width) as (batch, sequence, heads x width), each head repeated."""
    batch, own, length, width = states.shape
    states = states.transpose(1, 2)
    if own != heads:
        states = states.unsqueeze(3).expand(batch, length, own, heads // own, width)
    return states.reshape(batch, length, heads * width)


def _window(query: Tensor, size: int) -> Tensor:
    """Return a bias (1, 1, sequence, sequence): 0 for tokens within the window, the smallest number for others."""
    positions = torch.arange(query.shape[2])
    far = (positions.unsqueeze(0) - positions.unsqueeze(1)).abs() >= size
    return far.to(query.dtype)[None, None] * torch.finfo(query.dtype).min


def _refuse(module: nn.Module, unsupported: dict[str, object]) -> None:
    for what, value in unsupported.items():
        if value:
            raise ExportError(f"{type(module).__name__} is {what}, which is not supported in a classifier")


def padding_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
    """Return the mask in the operator's format: int32, 1 for tokens and 0 for padding."""
    return None if attention_mask is None else attention_mask.to(torch.int32)


def register() -> str:
    """Register the implementation with transformers; return its name."""
    AttentionInterface.register(NAME, multi_head_attention)
    AttentionMaskInterface.register(NAME, padding_mask)
    return NAME

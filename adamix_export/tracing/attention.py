"""Attention as ONNX Runtime's MultiHeadAttention, for families that use transformers' attention interface."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from adamix_export.errors import ExportError

NAME = "onnxruntime_multi_head"


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
    **_: Any,
) -> tuple[Tensor, None]:
    """Emit com.microsoft.MultiHeadAttention for query, key and value (batch, heads, sequence, head width).

    `attention_mask` is the key padding mask (batch, sequence); `position_bias` (1, heads, sequence, sequence) is added
    to the scores. With `sliding_window` a token attends to tokens less than that many positions away, on either side.

    Raises:
        ExportError: the attention is causal, soft-capped or grouped-query, which is not supported here.

    """
    batch, heads, length, width = query.shape
    _refuse(module, {"causal": getattr(module, "is_causal", False), "soft-capped": softcap})
    if key.shape[1] != heads:
        _refuse(module, {"grouped-query": True})
    bias = _window(query, sliding_window) if sliding_window else position_bias

    def flat(states: Tensor) -> Tensor:
        return states.transpose(1, 2).reshape(batch, states.shape[2], heads * width)

    attended = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (flat(query), flat(key), flat(value), None, attention_mask, bias),
        attrs={"num_heads": heads, "scale": float(scaling if scaling is not None else width**-0.5)},
        dtype=query.dtype,
        shape=(batch, length, heads * width),
        version=1,
    )
    return attended.reshape(batch, length, heads, width), None


def _window(query: Tensor, size: int) -> Tensor:
    """Return a bias (1, 1, sequence, sequence): 0 for tokens within the window, the smallest number for others."""
    positions = torch.arange(query.shape[2])
    far = (positions.unsqueeze(0) - positions.unsqueeze(1)).abs() >= size
    return far.to(query.dtype)[None, None] * torch.finfo(query.dtype).min


def _refuse(module: nn.Module, unsupported: dict[str, object]) -> None:
    for what, value in unsupported.items():
        if value:
            raise ExportError(f"{type(module).__name__} is {what} attention, which is not supported in an encoder")


def padding_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
    """Return the mask in the operator's format: int32, 1 for tokens and 0 for padding."""
    return None if attention_mask is None else attention_mask.to(torch.int32)


def register() -> str:
    """Register the implementation with transformers; return its name."""
    AttentionInterface.register(NAME, multi_head_attention)
    AttentionMaskInterface.register(NAME, padding_mask)
    return NAME

"""Attention as ONNX Runtime's own operator, for every family that uses transformers' attention interface."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

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
    **_: Any,
) -> tuple[Tensor, None]:
    """Emit com.microsoft.MultiHeadAttention for query, key and value (batch, heads, sequence, head width).

    `attention_mask` is the 2-D one (batch, sequence) of the keys, which the operator takes as its key padding mask;
    `position_bias` (1, heads, sequence, sequence) is added to the scores.
    """
    batch, heads, length, width = query.shape

    def flat(states: Tensor) -> Tensor:
        return states.transpose(1, 2).reshape(batch, states.shape[2], heads * width)

    attended = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (flat(query), flat(key), flat(value), None, attention_mask, position_bias),
        attrs={"num_heads": heads, "scale": float(scaling if scaling is not None else width**-0.5)},
        dtype=query.dtype,
        shape=(batch, length, heads * width),
        version=1,
    )
    return attended.reshape(batch, length, heads, width), None


def padding_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
    """Return the mask as the operator wants it: int32, 1 for tokens and 0 for padding."""
    return None if attention_mask is None else attention_mask.to(torch.int32)


def register() -> str:
    """Make the implementation known to transformers and return its name."""
    AttentionInterface.register(NAME, multi_head_attention)
    AttentionMaskInterface.register(NAME, padding_mask)
    return NAME

"""Attention as ONNX Runtime's own operator, for every family that uses transformers' attention interface."""

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

    `attention_mask` is the 2-D one (batch, sequence) of the keys, which the operator takes as its key padding mask;
    `position_bias` (1, heads, sequence, sequence) is added to the scores. A token sees those that are less than
    `sliding_window` from it, on either side. What the operator cannot do is an error that names it.
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
    """Return a bias (1, 1, sequence, sequence): 0 for pairs of tokens within the window, and the least number else."""
    positions = torch.arange(query.shape[2])
    far = (positions.unsqueeze(0) - positions.unsqueeze(1)).abs() >= size
    return far.to(query.dtype)[None, None] * torch.finfo(query.dtype).min


def _refuse(module: nn.Module, found: dict[str, object]) -> None:
    for what, value in found.items():
        if value:
            raise ExportError(f"{type(module).__name__} is {what} attention, which encoders are not exported with")


def padding_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
    """Return the mask as the operator wants it: int32, 1 for tokens and 0 for padding."""
    return None if attention_mask is None else attention_mask.to(torch.int32)


def register() -> str:
    """Make the implementation known to transformers and return its name."""
    AttentionInterface.register(NAME, multi_head_attention)
    AttentionMaskInterface.register(NAME, padding_mask)
    return NAME

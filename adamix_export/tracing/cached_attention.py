"""Attention over an in-place KV cache, as ONNX Runtime's GroupQueryAttention.

It is for families that use transformers' attention interface.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from adamix_export.errors import ExportError
from adamix_export.tracing.attention import multi_head_attention
from adamix_export.tracing.sizes import attention_sizes
from adamix_train.base_model.architecture import HEAD_WIDTH_MULTIPLE, STATIC_ROTARY

NAME = "onnxruntime_group_query"
ROTARY = "apply_rotary_pos_emb"


@dataclass
class Cache:
    """The tensors that attention reads and writes while it is traced; set by the traced module before each forward."""

    past: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values (batch, heads, max_length, head width) by layer."""
    present: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """`past` with the keys and values of this call."""
    last: Tensor = field(default_factory=lambda: torch.empty(0))
    """Position of each sequence's last token: (batch,), int32."""
    total: Tensor = field(default_factory=lambda: torch.empty(0))
    """Number of tokens in the longest sequence, the cache included: a scalar, int32."""
    positions: Tensor = field(default_factory=lambda: torch.empty(0))
    """Positions of the tokens of this call: (batch, sequence), int64; those of padding may be out of range."""
    columns: Tensor = field(default_factory=lambda: torch.empty(0))
    """All positions 0, 1, … of the longest sequence: (total,), int64."""
    source: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Encoder-decoders: keys and values (batch, source, heads x head width) of the source, by layer."""
    source_mask: Tensor | None = None
    """(batch, source), int32: 1 for tokens and 0 for padding."""
    cosine: Tensor | None = None
    """Cosines (positions, head width / 2) of rotary embeddings; None if the model has none."""
    sine: Tensor | None = None
    """Sines, of the same shape."""
    interleaved: bool = False
    """True if rotary embeddings rotate neighbouring values of a head; False if they pair its two halves."""


class CachedAttention:
    """The attention function: causal, over the cache and the tokens of this call, with rotary embeddings."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        position_bias: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Emit com.microsoft.GroupQueryAttention for query, key and value (batch, heads, sequence, head width).

        `position_bias` (batch, heads, sequence, total) is added to the scores. Attention to the encoder's output is not
        causal and has no cache of its own: it becomes MultiHeadAttention.
        """
        cache, layer = self.cache, int(module.layer_idx)  # type: ignore[arg-type]
        if not getattr(module, "is_causal", True):
            return multi_head_attention(module, query, key, value, cache.source_mask, scaling=scaling)
        batch, heads, length, width = query.shape
        rotary = cache.cosine is not None and getattr(module, "use_rope", True)
        attributes: dict[str, Any] = {
            "num_heads": heads,
            "kv_num_heads": key.shape[1],
            "scale": float(scaling if scaling is not None else width**-0.5),
            "do_rotary": int(bool(rotary)),
            "rotary_interleaved": int(cache.interleaved),
            "local_window_size": sliding_window or -1,
            "softcap": float(softcap or 0.0),
        }
        past = cache.past[layer]
        angles = (cache.cosine, cache.sine) if rotary else (None, None)
        attended, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (_flat(query), _flat(key), _flat(value), *past, cache.last, cache.total, *angles, None, position_bias),
            attrs=attributes,
            dtypes=(query.dtype, past[0].dtype, past[1].dtype),
            shapes=((batch, length, heads * width), past[0].shape, past[1].shape),
            version=1,
        )
        cache.present[layer] = (present[0], present[1])
        return attended.reshape(batch, length, heads, width), None


def _flat(states: Tensor) -> Tensor:
    batch, heads, length, width = states.shape
    return states.transpose(1, 2).reshape(batch, length, heads * width)


@contextmanager
def caching(model: PreTrainedModel, cache: Cache) -> Iterator[None]:
    """Make a model's attention use `cache` while it is traced; the operator applies the rotary embeddings."""
    AttentionInterface.register(NAME, CachedAttention(cache))
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise ExportError(
            f"{model.config.model_type} has an attention of its own (such as ALiBi) that does not use transformers' "
            "attention interface: it cannot be exported with a cache"
        )
    cache.cosine, cache.sine = _angles(model)
    module = sys.modules[type(model).__module__]
    if not hasattr(module, ROTARY):
        yield
        return
    cache.interleaved = _is_interleaved(module)
    with mock.patch.object(module, ROTARY, lambda query, key, *_, **__: (query, key)):
        yield


def _angles(model: PreTrainedModel) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return cosines and sines (positions, head width / 2) of a model's rotary embeddings, if it has any."""
    found = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    if not found:
        return None, None
    rotary: Any = found[0]
    if len(found) > 1 or rotary.rope_type not in STATIC_ROTARY:
        raise ExportError(
            f"rotary embeddings of type {rotary.rope_type} depend on the sequence's length, which "
            f"GroupQueryAttention's do not; supported are {', '.join(STATIC_ROTARY)}"
        )
    width = attention_sizes(model.config).head_width
    if 2 * len(rotary.inv_freq) != width:
        raise ExportError("rotary embeddings of a part of each head are not supported")
    if width % HEAD_WIDTH_MULTIPLE:
        raise ExportError(
            f"heads are {width} wide; ONNX Runtime's rotary embeddings need a multiple of {HEAD_WIDTH_MULTIPLE}: "
            "it cannot be exported"
        )
    positions = torch.arange(model.config.max_position_embeddings, dtype=torch.float32)
    angles = torch.outer(positions, rotary.inv_freq.float())
    return angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling


def _is_interleaved(module: Any) -> bool:
    """Return True if a family's own function rotates neighbouring values of a head."""
    rotated = module.rotate_half(torch.arange(4.0)).tolist()
    return bool(rotated == [-1.0, 0.0, -3.0, 2.0])

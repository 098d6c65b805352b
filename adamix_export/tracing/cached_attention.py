"""Attention over a cache in place, as ONNX Runtime's GroupQueryAttention, for every family that uses the interface."""

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

NAME = "onnxruntime_group_query"
ROTARY = "apply_rotary_pos_emb"
MULTIPLE = 16
STATIC = ("default", "linear", "llama3", "yarn")
"""Rotary types whose angles do not depend on the length of the sequence."""


@dataclass
class Cache:
    """What attention reads and writes while the graph is traced; a plain object, so that tracing sees inputs in it."""

    past: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values (batch, heads, max_length, head width) by layer."""
    present: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    last: Tensor = field(default_factory=lambda: torch.empty(0))
    """Each row's number of tokens, those of the cache included, less one: (batch,), int32."""
    total: Tensor = field(default_factory=lambda: torch.empty(0))
    """The longest row's number of tokens: a scalar, int32."""
    positions: Tensor = field(default_factory=lambda: torch.empty(0))
    """Of the tokens of the call: (batch, sequence), int64; those of padding may lie outside the row."""
    columns: Tensor = field(default_factory=lambda: torch.empty(0))
    """0, 1, … up to the longest row's number of tokens: (total,), int64."""
    source: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Of an encoder-decoder: the source's keys and values (batch, source, heads x head width) by layer."""
    source_mask: Tensor | None = None
    """(batch, source), int32: 1 for tokens and 0 for padding."""
    cosine: Tensor | None = None
    """(positions, head width / 2) of rotary embeddings; None where a model has none."""
    sine: Tensor | None = None
    interleaved: bool = False
    """Whether rotary embeddings turn neighbouring values of a head; else they turn one of each half together."""


class CachedAttention:
    """The attention function: causal, over the cache and the tokens of the call, rotary embeddings included."""

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

        `position_bias` (batch, heads, sequence, total) is added to the scores. Attention to a source has no cache of
        its own and is not causal: that is MultiHeadAttention.
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
    """Let a model's attention go through `cache` while it is traced; rotary embeddings become the operator's."""
    AttentionInterface.register(NAME, CachedAttention(cache))
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise ExportError(
            f"{model.config.model_type} has an attention of its own (ALiBi, for one), which does not go through "
            "transformers' attention interface: it cannot be exported with a cache"
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
    """Return cosine and sine (positions, head width / 2) of a model's rotary embeddings, if it has them."""
    found = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    if not found:
        return None, None
    rotary: Any = found[0]
    if len(found) > 1 or rotary.rope_type not in STATIC:
        raise ExportError(
            f"rotary embeddings of type {rotary.rope_type} depend on the sequence's length, which "
            f"GroupQueryAttention's do not; exported are {', '.join(STATIC)}"
        )
    width = head_width(model)
    if 2 * len(rotary.inv_freq) != width:
        raise ExportError("rotary embeddings of a part of each head are not exported")
    if width % MULTIPLE:
        raise ExportError(
            f"heads are {width} wide; ONNX Runtime's rotary embeddings need a multiple of {MULTIPLE}: "
            "it cannot be exported"
        )
    positions = torch.arange(model.config.max_position_embeddings, dtype=torch.float32)
    angles = torch.outer(positions, rotary.inv_freq.float())
    return angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling


def _is_interleaved(module: Any) -> bool:
    """Return which values of a head a family turns together, by its own function."""
    turned = module.rotate_half(torch.arange(4.0)).tolist()
    return bool(turned == [-1.0, 0.0, -3.0, 2.0])


def head_width(model: PreTrainedModel) -> int:
    """Return the width of an attention head."""
    config = model.config
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

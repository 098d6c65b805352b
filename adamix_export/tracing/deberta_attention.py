"""DeBERTa's disentangled attention in a bank, whose adapters also apply to relative positions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention, build_relative_position

from adamix_export.tracing.bank import AdaptedLayer


@contextmanager
def positions_by_row(model: nn.Module) -> Iterator[None]:
    """Make each sequence project the relative positions with its own adapter.

    transformers projects them once for the whole batch. Only layers whose projection of positions is adapted change.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, DisentangledSelfAttention) and _adapts_positions(module):
                stack.enter_context(mock.patch.object(module, "disentangled_attention_bias", _Bias(module)))
        yield


def _adapts_positions(attention: Any) -> bool:
    return any(isinstance(getattr(attention, name, None), AdaptedLayer) for name in _projections(attention))


def _projections(attention: Any) -> tuple[str, str]:
    """Return the names of what projects positions to queries and to keys: shared with tokens, or of their own."""
    return ("query_proj", "key_proj") if attention.share_att_key else ("pos_query_proj", "pos_key_proj")


class _Bias:
    """`DisentangledSelfAttention.disentangled_attention_bias` with each sequence's own projected positions."""

    def __init__(self, attention: Any) -> None:
        self.attention = attention

    def __call__(
        self, query: Tensor, key: Tensor, relative: Tensor | None, embeddings: Tensor, scale_factor: int
    ) -> Tensor:
        """Return the bias (batch x heads, sequence, sequence) of queries and keys (batch x heads, sequence, width)."""
        attention, heads = self.attention, self.attention.num_attention_heads
        to_query, to_key = _projections(attention)
        if relative is None:
            relative = build_relative_position(
                query, key, bucket_size=attention.position_buckets, max_position=attention.max_relative_positions
            )
        span = attention.pos_ebd_size
        positions = embeddings[: 2 * span].unsqueeze(0).expand(query.shape[0] // heads, -1, -1)
        index = relative.to(torch.long).reshape(1, query.shape[1], key.shape[1])
        scale = (query.shape[-1] * scale_factor) ** 0.5
        bias = torch.zeros((), dtype=query.dtype)
        if "c2p" in attention.pos_att_type:
            projected = attention.transpose_for_scores(getattr(attention, to_key)(positions), heads)
            bias = bias + _gather(query, projected, index + span, 2 * span) / scale
        if "p2c" in attention.pos_att_type:
            projected = attention.transpose_for_scores(getattr(attention, to_query)(positions), heads)
            bias = bias + _gather(key, projected, span - index, 2 * span).transpose(1, 2) / scale
        return bias


def _gather(content: Tensor, positions: Tensor, index: Tensor, count: int) -> Tensor:
    """Return the scores of content (n, sequence, width) with the positions (n, count, width) at `index`."""
    scores = torch.bmm(content, positions.transpose(1, 2))
    return scores.gather(2, index.clamp(0, count - 1).expand(content.shape[0], -1, -1))

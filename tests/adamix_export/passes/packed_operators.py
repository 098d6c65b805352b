"""ONNX Runtime's operators without padding in NumPy, from their documentation: they have kernels for CUDA only.

Each checks ranks, sizes and types as its documentation states them.
"""

from itertools import pairwise

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "com.microsoft"


class RemovePadding(OpRun):
    """(batch, sequence, width) and lengths (batch,) → (tokens, width), offsets, cumulative lengths, the longest."""

    op_domain = DOMAIN

    def _run(self, states, lengths):
        batch, sequence, width = states.shape
        assert lengths.shape == (batch,) and lengths.dtype == np.int32
        real = np.arange(sequence)[None] < lengths[:, None]
        offsets = np.arange(batch * sequence).reshape(batch, sequence)
        ordered = np.concatenate([offsets[real], offsets[~real]]).astype(np.int32).reshape(batch, sequence)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return states[real].reshape(-1, width), ordered, ends, lengths.max(keepdims=True)


class RestorePadding(OpRun):
    """(tokens, width) and offsets (batch, sequence) → (batch, sequence, width), with zeros for padding."""

    op_domain = DOMAIN

    def _run(self, states, offsets):
        tokens, width = states.shape
        assert offsets.dtype == np.int32
        restored = np.zeros((offsets.size, width), states.dtype)
        restored[offsets.ravel()[:tokens]] = states
        return (restored.reshape(*offsets.shape, width),)


class PackedMultiHeadAttention(OpRun):
    """Query, key and value (tokens, width) → (tokens, width): each sequence attends to its own tokens."""

    op_domain = DOMAIN

    def _run(self, query, key, value, bias, offsets, ends, num_heads, scale):
        assert bias is None and query.ndim == 2 and query.shape == key.shape == value.shape
        assert query.dtype == key.dtype == value.dtype
        assert offsets.dtype == ends.dtype == np.int32
        assert ends.shape == (len(offsets) + 1,) and ends[-1] == len(query)
        parts = []
        for start, end in pairwise(ends):
            q, k, v = (_heads(x[start:end], num_heads) for x in (query, key, value))
            scores = np.einsum("qhd,khd->hqk", q, k) * np.float32(scale)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            parts.append(np.einsum("hqk,khd->qhd", weights, v).reshape(end - start, -1))
        return (np.concatenate(parts).astype(query.dtype),)


class PackedAttention(OpRun):
    """States (tokens, in), weights (in, 3 × width) and bias → (tokens, width)."""

    op_domain = DOMAIN

    def _run(self, states, weights, bias, offsets, ends, num_heads, scale):
        assert states.ndim == 2 and bias.shape == weights.shape[1:]
        assert states.dtype == weights.dtype == bias.dtype
        projected = np.split((states @ weights + bias).astype(states.dtype), 3, axis=1)
        return PackedMultiHeadAttention._run(self, *projected, None, offsets, ends, num_heads, scale)


class GatherElements(OpRun):
    """ONNX's operator: its own reference fails where the indices have fewer columns than the data."""

    op_domain = ""

    def _run(self, data, indices, axis):
        return (np.take_along_axis(data, indices, axis),)


def _heads(states, count):
    return states.astype(np.float32).reshape(len(states), count, -1)


OPERATORS = [RemovePadding, RestorePadding, PackedMultiHeadAttention, PackedAttention, GatherElements]


def run_packed(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The logits of a packed graph."""
    (logits,) = ReferenceEvaluator(model, new_ops=OPERATORS).run(None, feeds)
    return logits

"""Trace an encoder-decoder (T5) to two ONNX graphs.

The encoder's graph takes `input_ids` and `attention_mask` (batch, sequence) and returns the keys and values that the
decoder attends to, `present.N.encoder.key` and `.value` (batch, sequence, heads x head width): the source is projected
once. The decoder's graph takes them as `past_key_values.N.encoder.key` and `.value` (batch, source, …), together with
`encoder_attention_mask` (batch, source). Otherwise it is the graph of `adamix_export.tracing.decoder`, with its own
cache called `past_key_values.N.decoder.…`.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from adamix_export.errors import ExportError
from adamix_export.tracing.attention import register
from adamix_export.tracing.cached_attention import Cache, caching
from adamix_export.tracing.decoder import Decoder, States, state_names, write_steps
from adamix_export.tracing.merged import replace_module
from adamix_export.tracing.norm import fuse_norms
from adamix_export.tracing.sizes import attention_sizes
from adamix_export.tracing.stacks import Stacks
from adamix_export.tracing.torch_export import Shapes, write_onnx
from adamix_train.base_model.architecture import why_not_exported
from serve.bundle.graph_io import (
    ATTENTION_MASK,
    BANK,
    BATCH,
    ENCODER_ATTENTION_MASK,
    INPUT_IDS,
    PAST,
    PRESENT,
    SEQUENCE,
    SOURCE,
)

ENCODER_MODULES = re.compile(r"encoder\.|.*\.EncDecAttention\.[kv]\.")
"""Modules that process the source only."""


class Encoder(nn.Module):
    """An encoder with the projections of the decoder's cross-attention."""

    def __init__(self, model: PreTrainedModel, stacks: Stacks | None) -> None:
        super().__init__()
        self.model, self.stacks = model, stacks

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return a key and a value (batch, sequence, heads x head width) for every layer of the decoder."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        encoded = self.model.get_encoder()(
            input_ids=tensors[INPUT_IDS], attention_mask=tensors[ATTENTION_MASK]
        ).last_hidden_state
        return tuple(
            projection(encoded) for cross in _cross_attentions(self.model) for projection in (cross.k, cross.v)
        )


class PrecomputedProjection(nn.Module):
    """Replaces a cross-attention projection by the encoder graph's output."""

    def __init__(self, cache: Cache, layer: int, part: int) -> None:
        super().__init__()
        self.cache, self.layer, self.part = cache, layer, part

    def forward(self, source: Tensor) -> Tensor:
        """Return a key or value (batch, source, heads x head width) of the cache; `source` is not used."""
        return self.cache.source[self.layer][self.part]


class TargetDecoder(Decoder):
    """The decoder of an encoder-decoder; keys and values of the source are inputs."""

    def __init__(
        self, model: PreTrainedModel, cache: Cache, stacks: Stacks | None, states: States, sources: States
    ) -> None:
        super().__init__(model, cache, stacks, states)
        self.sources = sources

    @property
    def inner(self) -> nn.Module:
        """The module that returns the last hidden states."""
        return self.model.get_decoder()

    def run(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the logits of the last hidden states."""
        cache = self.cache
        cache.source = {
            layer: (tensors[PAST + key], tensors[PAST + value]) for layer, (key, value) in enumerate(self.sources)
        }
        cache.source_mask = tensors[ENCODER_ATTENTION_MASK].to(torch.int32)
        # Only the shape of the encoder's hidden states is used: their projections are inputs.
        source = BaseModelOutput(last_hidden_state=tensors[PAST + self.sources[0][0]])
        return self.model(
            encoder_outputs=source,
            attention_mask=tensors[ENCODER_ATTENTION_MASK],
            decoder_input_ids=tensors[INPUT_IDS],
            use_cache=False,
        ).logits


def write_graphs(model: PreTrainedModel, stacks: Stacks | None, encoder: Path, decoder: Path) -> None:
    """Write the two ONNX graphs, each with its weights beside it as external data; modify `model` in place."""
    if reason := why_not_exported(model.config, generates=True):
        raise ExportError(f"the base {reason}")
    fuse_norms(model)
    _write_encoder(model, stacks, encoder)
    _write_decoder(model, stacks, decoder)


def _write_encoder(model: PreTrainedModel, stacks: Stacks | None, file: Path) -> None:
    model.set_attn_implementation(register())
    shapes: Shapes = dict.fromkeys((INPUT_IDS, ATTENTION_MASK), (BATCH, SEQUENCE))
    shapes |= stacks.inputs(lambda name: bool(ENCODER_MODULES.match(name))) if stacks else {}
    sources = state_names(len(_cross_attentions(model)), "encoder.")
    outputs = [PRESENT + name for pair in sources for name in pair]
    write_onnx(Encoder(model, stacks).eval(), shapes, outputs=outputs, floats=(BANK,), file=file)


def _write_decoder(model: PreTrainedModel, stacks: Stacks | None, file: Path) -> None:
    sizes = attention_sizes(model.config)
    crosses, cache = _cross_attentions(model), Cache()
    states, sources = (state_names(len(crosses), infix) for infix in ("decoder.", "encoder."))
    inputs: Shapes = {ENCODER_ATTENTION_MASK: (BATCH, SOURCE)}
    width = sizes.heads * sizes.head_width
    inputs |= {PAST + name: (BATCH, SOURCE, width) for pair in sources for name in pair}
    inputs |= stacks.inputs(lambda name: not ENCODER_MODULES.match(name)) if stacks else {}
    for layer, cross in enumerate(crosses):
        for part, name in enumerate("kv"):
            replace_module(cross, name, PrecomputedProjection(cache, layer, part))
    first = model.get_decoder().block[0].layer[0].SelfAttention
    first.compute_bias = lambda *_, **__: _relative_bias(first, cache)
    with caching(model, cache):
        write_steps(TargetDecoder(model, cache, stacks, states, sources), sizes.heads, inputs, file)


def _cross_attentions(model: PreTrainedModel) -> list[Any]:
    """Return the cross-attention of every layer of the decoder."""
    return [block.layer[1].EncDecAttention for block in model.get_decoder().block]


def _relative_bias(attention: Any, cache: Cache) -> Tensor:
    """Return T5's relative position bias (batch, heads, sequence, total), with each sequence's own positions."""
    buckets = attention._relative_position_bucket(
        cache.columns - cache.positions.unsqueeze(-1),
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)

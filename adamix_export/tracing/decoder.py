"""Trace a decoder to an ONNX graph: a step of any length over an in-place KV cache.

`input_ids` (batch, sequence) are padded on the right; `attention_mask` (batch, total) marks the tokens of the cache
and of this call. `past_key_values.N.key` and `.value` are buffers (batch, heads, max_length, head width), and
`present.N.key` and `.value` may share their memory: the operator writes the new entries only. Sequences of a batch may
have different lengths. The first call has as many mask columns as input columns; later calls have one input column.
`logits` (batch, positions, vocabulary) are those of each sequence's last token, or of the tokens that lie
`logit_offsets` (positions) before it: an input of decoders without an encoder, which a run may leave out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.errors import ExportError
from adamix_export.passes.fuse_projections import fuse_projections
from adamix_export.tracing.cached_attention import Cache, caching
from adamix_export.tracing.conv1d import untranspose
from adamix_export.tracing.norm import fuse_norms
from adamix_export.tracing.sizes import attention_sizes
from adamix_export.tracing.stacks import Stacks
from adamix_export.tracing.torch_export import Shapes, write_onnx
from serve.bundle.graph_io import (
    ATTENTION_MASK,
    BANK,
    BATCH,
    INPUT_IDS,
    LOGIT_OFFSETS,
    LOGITS,
    MAX_LENGTH,
    PAST,
    POSITIONS,
    PRESENT,
    SEQUENCE,
    TOTAL,
)

LAST_TOKEN = np.array([0], np.int64)
"""Offsets of a run that does not say which logits it wants."""
States = list[tuple[str, str]]
"""The names of the key and the value of each layer."""


class Decoder(nn.Module):
    """A causal language model that takes all inputs, including cache and stacks, as one dict."""

    def __init__(self, model: PreTrainedModel, cache: Cache, stacks: Stacks | None, states: States) -> None:
        super().__init__()
        self.model, self.cache, self.stacks, self.states = model, cache, stacks, states

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return logits (batch, positions, vocabulary) and the keys and values of every layer."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        ids, mask = tensors[INPUT_IDS], tensors[ATTENTION_MASK]
        last = mask.sum(1) - 1
        self.cache.last = last.to(torch.int32)
        self.cache.total = torch.scalar_tensor(mask.shape[1], dtype=torch.int32)
        self.cache.columns, steps = torch.arange(mask.shape[1]), torch.arange(ids.shape[1])
        self.cache.past = {
            layer: (tensors[PAST + key], tensors[PAST + value]) for layer, (key, value) in enumerate(self.states)
        }
        # A length as a number would be on the host, and to compute with it a copy, which no CUDA graph can have.
        newest = steps[-1:]
        begun = (self.cache.columns[-1:] - newest).clamp(max=1)
        self.cache.positions = ((last - newest) * begun).unsqueeze(1) + steps
        ends = torch.minimum(last, newest).view(-1, 1, 1)
        if LOGIT_OFFSETS in tensors:
            ends = (ends - tensors[LOGIT_OFFSETS].view(1, -1, 1)).clamp(min=0)

        def keep_last(module: nn.Module, given: Any, output: Any) -> Any:
            states = output.last_hidden_state
            output.last_hidden_state = states.gather(1, ends.expand(-1, -1, states.shape[2]))
            return output

        hook = self.inner.register_forward_hook(keep_last)
        try:
            logits = self.run(tensors)
        finally:
            hook.remove()
        return logits, *(state for layer in range(len(self.states)) for state in self.cache.present[layer])

    @property
    def inner(self) -> nn.Module:
        """The module that returns the last hidden states."""
        return self.model.base_model

    def run(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the logits of the last hidden states, with the model's own scaling and soft-capping."""
        positions = self.cache.positions.clamp(min=0)
        return self.model(input_ids=tensors[INPUT_IDS], position_ids=positions, use_cache=False).logits


def write_graph(model: PreTrainedModel, stacks: Stacks | None, file: Path) -> None:
    """Write the ONNX graph of a causal language model to `file`, with its weights beside it as external data."""
    sizes = attention_sizes(model.config)
    states = state_names(sizes.layers)
    fuse_norms(model)
    untranspose(model)
    cache = Cache()
    with caching(model, cache):
        inputs = {**(stacks.inputs() if stacks else {}), LOGIT_OFFSETS: (POSITIONS,)}
        write_steps(Decoder(model, cache, stacks, states), sizes.key_value_heads, inputs, file)


def state_names(layers: int, infix: str = "") -> States:
    """Return the names of each layer's key and value, without the prefix `PAST` or `PRESENT`."""
    return [(f"{layer}.{infix}key", f"{layer}.{infix}value") for layer in range(layers)]


def write_steps(decoder: Decoder, heads: int, inputs: Shapes, file: Path) -> None:
    """Write the graph of a decoder with `heads` key-value heads; `inputs` are those besides tokens and cache."""
    names = [name for pair in decoder.states for name in pair]
    buffer = (BATCH, heads, MAX_LENGTH, attention_sizes(decoder.model.config).head_width)
    write_onnx(
        decoder.eval(),
        {
            INPUT_IDS: (BATCH, SEQUENCE),
            ATTENTION_MASK: (BATCH, TOTAL),
            **{PAST + name: buffer for name in names},
            **inputs,
        },
        outputs=[LOGITS, *(PRESENT + name for name in names)],
        floats=(PAST, BANK),
        file=file,
        further=(fuse_projections,),
        defaults={LOGIT_OFFSETS: LAST_TOKEN} if LOGIT_OFFSETS in inputs else {},
    )
    if len(decoder.cache.present) != len(decoder.states):
        raise ExportError(
            f"{type(decoder.model).__name__} has {len(decoder.states)} layers, but only {len(decoder.cache.present)} "
            "use transformers' attention interface: it cannot be exported with a cache"
        )

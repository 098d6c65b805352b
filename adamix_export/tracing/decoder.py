"""Trace a decoder and write its ONNX graph: one step of any length, over a cache in place.

`input_ids` (batch, sequence) are padded on the right; `attention_mask` (batch, total) marks the tokens of the cache
and of this call. `past_key_values.N.key` and `.value` are buffers (batch, heads, max_length, head width), and
`present.N.key` and `.value` may be the same memory: the operator writes the new entries only. Rows have lengths of
their own. A first call has as many mask columns as input columns; a later one has one input column. `logits` (batch, 1,
vocabulary) are those of each row's last token.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.errors import ExportError
from adamix_export.passes.fuse_projections import join_products
from adamix_export.tracing.bank import Stacks
from adamix_export.tracing.cached_attention import Cache, caching, head_width
from adamix_export.tracing.norm import fuse_norms
from adamix_export.tracing.torch_export import Shapes, write_program
from serve.bundle.graph_io import BANK

MAX_LENGTH = "max_length"
PAST = "past_key_values."
PRESENT = "present."
States = list[tuple[str, str]]
"""By layer: the names of its key and its value."""


class Decoder(nn.Module):
    """A causal language model whose inputs, cache and stacks included, come as one dict."""

    def __init__(self, model: PreTrainedModel, cache: Cache, stacks: Stacks | None, states: States) -> None:
        super().__init__()
        self.model, self.cache, self.stacks, self.states = model, cache, stacks, states

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return logits (batch, 1, vocabulary) and the keys and values of every layer."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        ids, mask = tensors["input_ids"], tensors["attention_mask"]
        last = mask.sum(1) - 1
        self.cache.last = last.to(torch.int32)
        self.cache.total = torch.scalar_tensor(mask.shape[1], dtype=torch.int32)
        self.cache.columns = torch.arange(mask.shape[1])
        self.cache.past = {
            layer: (tensors[PAST + key], tensors[PAST + value]) for layer, (key, value) in enumerate(self.states)
        }
        length = ids.shape[1]
        begun = torch.scalar_tensor(mask.shape[1] - length, dtype=torch.int64).clamp(max=1)
        start = (last + 1 - length) * begun
        self.cache.positions = start.unsqueeze(1) + torch.arange(length)
        ends = torch.minimum(last, torch.full_like(last, length - 1)).view(-1, 1, 1)

        def keep_last(module: nn.Module, given: Any, output: Any) -> Any:
            states = output.last_hidden_state
            output.last_hidden_state = states.gather(1, ends.expand(-1, 1, states.shape[2]))
            return output

        hook = self.inner.register_forward_hook(keep_last)
        try:
            logits = self.run(tensors)
        finally:
            hook.remove()
        return logits, *(state for layer in range(len(self.states)) for state in self.cache.present[layer])

    @property
    def inner(self) -> nn.Module:
        """What gives the last hidden states."""
        return self.model.base_model

    def run(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the logits of the states that `inner` gives: all that the model does to them, scale and soft-cap."""
        positions = self.cache.positions.clamp(min=0)
        return self.model(input_ids=tensors["input_ids"], position_ids=positions, use_cache=False).logits


def write_graph(model: PreTrainedModel, stacks: Stacks | None, file: Path) -> None:
    """Write the ONNX graph of a causal language model to `file`, weights beside it as external data."""
    config: Any = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    states = state_names(config.num_hidden_layers)
    fuse_norms(model)
    cache = Cache()
    with caching(model, cache):
        write_steps(Decoder(model, cache, stacks, states), heads, stacks.inputs() if stacks else {}, file)


def state_names(layers: int, infix: str = "") -> States:
    """Return the names of each layer's key and value, without what goes before them."""
    return [(f"{layer}.{infix}key", f"{layer}.{infix}value") for layer in range(layers)]


def write_steps(decoder: Decoder, heads: int, inputs: Shapes, file: Path) -> None:
    """Write the graph of a decoder with `heads` of keys and values; `inputs` are those besides tokens and cache."""
    names = [name for pair in decoder.states for name in pair]
    buffer = ("batch", heads, MAX_LENGTH, head_width(decoder.model))
    write_program(
        decoder.eval(),
        {
            "input_ids": ("batch", "sequence"),
            "attention_mask": ("batch", "total"),
            **{PAST + name: buffer for name in names},
            **inputs,
        },
        outputs=["logits", *(PRESENT + name for name in names)],
        floats=(PAST, BANK),
        file=file,
        further=(join_products,),
    )
    if len(decoder.cache.present) != len(decoder.states):
        raise ExportError(
            f"{type(decoder.model).__name__} has {len(decoder.states)} layers, {len(decoder.cache.present)} of which "
            "attend through transformers' attention interface: it cannot be exported with a cache"
        )

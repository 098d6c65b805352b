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
from adamix_export.graph.bank import Stacks
from adamix_export.graph.cached import Cache, caching, head_width
from adamix_export.graph.norm import fuse_norms
from adamix_export.graph.program import Shapes, write_program
from serve.bank import PREFIX

MAX_LENGTH = "max_length"


class Decoder(nn.Module):
    """A causal language model whose inputs, cache and stacks included, come as one dict."""

    def __init__(self, model: PreTrainedModel, cache: Cache, stacks: Stacks | None, layers: int) -> None:
        super().__init__()
        self.model, self.cache, self.stacks, self.layers = model, cache, stacks, layers

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return logits (batch, 1, vocabulary) and the keys and values of every layer."""
        inputs = dict(tensors)
        if self.stacks is not None:
            self.stacks.adapter_ids = inputs["adapter_ids"]
            self.stacks.values = {name: inputs[PREFIX + name] for name in self.stacks.shapes}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        last = mask.sum(1) - 1
        self.cache.last = last.to(torch.int32)
        self.cache.total = torch.scalar_tensor(mask.shape[1], dtype=torch.int32)
        self.cache.past = {
            layer: (inputs[f"past_key_values.{layer}.key"], inputs[f"past_key_values.{layer}.value"])
            for layer in range(self.layers)
        }
        length = ids.shape[1]
        begun = torch.scalar_tensor(mask.shape[1] - length, dtype=torch.int64).clamp(max=1)
        start = (last + 1 - length) * begun
        positions = start.unsqueeze(1) + torch.arange(length)
        states = self.model.base_model(
            input_ids=ids, position_ids=positions.clamp(min=0), use_cache=False
        ).last_hidden_state
        ends = torch.minimum(last, torch.full_like(last, length - 1))
        index = ends.view(-1, 1, 1).expand(-1, 1, states.shape[2])
        logits = self.model.get_output_embeddings()(states.gather(1, index))
        return logits, *(state for layer in range(self.layers) for state in self.cache.present[layer])


def write_graph(model: PreTrainedModel, stacks: Stacks | None, file: Path) -> None:
    """Write the ONNX graph of a causal language model to `file`, weights beside it as external data."""
    config: Any = model.config
    layers, heads = config.num_hidden_layers, getattr(config, "num_key_value_heads", config.num_attention_heads)
    buffer = ("batch", heads, MAX_LENGTH, head_width(model))
    names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    shapes: Shapes = {"input_ids": ("batch", "sequence"), "attention_mask": ("batch", "total")}
    shapes |= {f"past_key_values.{name}": buffer for name in names}
    if stacks is not None:
        shapes["adapter_ids"] = ("batch",)
        shapes |= {PREFIX + name: shape for name, shape in stacks.shapes.items()}
    fuse_norms(model)
    cache = Cache()
    with caching(model, cache):
        write_program(
            Decoder(model, cache, stacks, layers).eval(),
            shapes,
            outputs=["logits", *(f"present.{name}" for name in names)],
            floats=("past_key_values.", PREFIX),
            file=file,
        )
    if len(cache.present) != layers:
        raise ExportError(
            f"{type(model).__name__} has {layers} layers, {len(cache.present)} of which attend through transformers' "
            "attention interface: it cannot be exported with a cache"
        )

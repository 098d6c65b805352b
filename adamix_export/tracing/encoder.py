"""Trace a classifier to an ONNX graph."""

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.passes.fuse_projections import fuse_projections
from adamix_export.passes.fuse_qkv_attention import fuse_qkv_attention
from adamix_export.passes.read_token import narrow_to_read_token
from adamix_export.tracing.attention import register
from adamix_export.tracing.deberta_attention import positions_by_row
from adamix_export.tracing.last_token import last_token_classifier
from adamix_export.tracing.norm import fuse_norms
from adamix_export.tracing.stacks import Stacks
from adamix_export.tracing.torch_export import Shapes, write_onnx
from serve.bundle.graph_io import BANK, BATCH, LOGITS, SEQUENCE

PASSES = (narrow_to_read_token, fuse_qkv_attention)
"""Passes that make an encoder's graph faster."""
LAST_TOKEN_PASSES = (narrow_to_read_token, fuse_projections)
"""The same for a model whose head reads the last token, and whose attention is causal."""


class Encoder(nn.Module):
    """A classifier that takes all inputs, including stacks, as one dict and returns its logits."""

    def __init__(self, model: PreTrainedModel, token_inputs: list[str], stacks: Stacks | None) -> None:
        super().__init__()
        self.model, self.token_inputs, self.stacks = model, token_inputs, stacks

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return logits (batch, labels)."""
        if self.stacks is not None:
            self.stacks.read(tensors)
        return self.model(**{name: tensors[name] for name in self.token_inputs}).logits


def write_graph(model: PreTrainedModel, token_inputs: list[str], stacks: Stacks | None, file: Path) -> None:
    """Write the ONNX graph of `model` to `file`, with its weights beside it as external data; modify `model` in place.

    `token_inputs` are the names of the tokenizer's outputs that the model takes. With `stacks` the graph also takes
    `adapter_ids` and the bank's weights.
    """
    shapes: Shapes = dict.fromkeys(token_inputs, (BATCH, SEQUENCE))
    shapes |= stacks.inputs() if stacks else {}
    model.set_attn_implementation(register())
    module, passes = last_token_classifier(model, token_inputs, stacks), LAST_TOKEN_PASSES
    if module is None:
        module, passes = Encoder(model, token_inputs, stacks), PASSES
    else:
        fuse_norms(model)
    with positions_by_row(model):
        write_onnx(module.eval(), shapes, outputs=[LOGITS], floats=(BANK,), file=file, further=passes)

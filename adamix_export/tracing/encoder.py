"""Trace a classifier to an ONNX graph."""

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.passes.first_token import narrow_to_first_token
from adamix_export.passes.fuse_qkv_attention import fuse_qkv_attention
from adamix_export.tracing.attention import register
from adamix_export.tracing.deberta_attention import positions_by_row
from adamix_export.tracing.stacks import Stacks
from adamix_export.tracing.torch_export import Shapes, write_onnx
from serve.bundle.graph_io import BANK, BATCH, LOGITS, SEQUENCE

PASSES = (narrow_to_first_token, fuse_qkv_attention)
"""Passes that make a classifier's graph faster."""


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
    """Write the ONNX graph of `model` to `file`, with its weights beside it as external data.

    `token_inputs` are the names of the tokenizer's outputs that the model takes. With `stacks` the graph also takes
    `adapter_ids` and the bank's weights.
    """
    shapes: Shapes = dict.fromkeys(token_inputs, (BATCH, SEQUENCE))
    shapes |= stacks.inputs() if stacks else {}
    model.set_attn_implementation(register())
    encoder = Encoder(model, token_inputs, stacks).eval()
    with positions_by_row(model):
        write_onnx(encoder, shapes, outputs=[LOGITS], floats=(BANK,), file=file, further=PASSES)

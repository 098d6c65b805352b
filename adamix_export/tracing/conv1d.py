"""GPT-2's transposed linear layers, traced as the products that every other family has.

transformers' own layer flattens batch and tokens, which becomes Gemm. Fusions and precisions look for MatMul.
"""

from torch import Tensor, matmul, nn
from transformers.pytorch_utils import Conv1D

from adamix_export.tracing.merged import replace_module


class Product(nn.Module):
    """A transposed linear layer that keeps the tokens apart from the batch."""

    def __init__(self, layer: Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Project x (batch, sequence, in)."""
        return matmul(x, self.weight) + self.bias


def untranspose(model: nn.Module) -> None:
    """Replace the transposed linear layers of a model, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            replace_module(model, name, Product(module))

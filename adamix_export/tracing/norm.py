"""Root-mean-square norms as ONNX Runtime's own operator."""

import torch
from torch import Tensor, nn

from adamix_export.tracing.merged import replace_module

SUFFIXES = ("RMSNorm", "T5LayerNorm")
"""Suffixes of the class names of root-mean-square norms."""


class RMSNorm(nn.Module):
    """A norm as SimplifiedLayerNormalization, which ONNX Runtime fuses with a preceding addition."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight: Tensor = norm.weight  # type: ignore[assignment]
        self.epsilon = float(norm.variance_epsilon)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (…, width)."""
        return torch.onnx.ops.symbolic(
            "SimplifiedLayerNormalization",
            (x, self.weight),
            attrs={"axis": -1, "epsilon": self.epsilon, "stash_type": 1},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )


def fuse_norms(model: nn.Module) -> None:
    """Replace a model's root-mean-square norms in place."""
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith(SUFFIXES) and hasattr(module, "variance_epsilon"):
            replace_module(model, name, RMSNorm(module))

"""The low-rank adapter of Hu et al. (2021): parallel to a projection."""

import math

import torch
from torch import Tensor, nn

from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape


class LoRA(nn.Module):
    """y + lora_alpha / r · up(down(dropout(x))), without biases.

    `down` starts Kaiming-uniform and alike in every module, `up` at zero, as in the original's NLG code: the modules
    part only because different batches reach them, which keeps their mean meaningful.
    """

    def __init__(self, shape: AdapterShape, projection: Projection) -> None:
        super().__init__()
        self.scaling = shape.lora_alpha / shape.r
        self.dropout = nn.Dropout(shape.dropout)
        self.down = projection("down", shape.in_features, shape.r, bias=False)
        self.up = projection("up", shape.r, shape.out_features, bias=False)

    def reset_parameters(self) -> None:
        """Initialise the projections from torch's default generator."""
        down = torch.empty(self.down.weight.shape[-2:], device=self.down.weight.device)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        with torch.no_grad():
            self.down.weight.copy_(down)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Adapt y (batch, …, out), the projection of x (batch, …, in)."""
        return y + self.scaling * self.up(self.down(self.dropout(x)))

    def fold(self) -> None:
        """Multiply `up` by the scaling."""
        with torch.no_grad():
            self.up.weight.mul_(self.scaling)
        self.scaling = 1.0

    def merge(self, base: nn.Linear) -> nn.Module:
        """Fold the adapter into the weights of `base`: W + lora_alpha / r · up · down."""
        with torch.no_grad():
            delta = self.scaling * self.up.weight.double() @ self.down.weight.double()
            base.weight.copy_((base.weight.double() + delta).to(base.weight.dtype))
        return base

"""The low-rank adapter of Hu et al. (2021): parallel to a projection."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from adamix_train.mixture.layers import add_to_weight
from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape


class LoRA(nn.Module):
    """y + lora_alpha / r · up(down(dropout(x))), without biases.

    `down` starts Kaiming-uniform and equal in every module, `up` at zero, as in the original's NLG code: modules
    diverge only because different batches reach them, which keeps their mean meaningful.

    In a fused projection each adapted block has its own pair of rank r; the pairs are stacked in one `down` and one
    `up`, so that one routing decision covers them, as in the original's GPT-2 (query and value of `c_attn`).
    """

    sites: ClassVar[tuple[str, ...]] = ("query_value",)

    def __init__(self, shape: AdapterShape, projection: Projection) -> None:
        super().__init__()
        self.blocks, self.block_count = shape.blocks or (0,), shape.block_count if shape.blocks else 1
        self.scaling = shape.lora_alpha / shape.r
        self.dropout = nn.Dropout(shape.dropout)
        width = len(self.blocks) * shape.out_features // self.block_count
        self.down = projection("down", shape.in_features, len(self.blocks) * shape.r, bias=False)
        self.up = projection("up", shape.r, width, bias=False)

    def reset_parameters(self) -> None:
        """Initialise the projections from torch's default generator."""
        down = torch.empty(self.down.weight.shape[-2:], device=self.down.weight.device)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        with torch.no_grad():
            self.down.weight.copy_(down)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Adapt y (batch, …, out), the projection of x (batch, …, in)."""
        h = self.down(self.dropout(x))
        if self.block_count == 1:
            return y + self.scaling * self.up(h)
        outputs = list(y.chunk(self.block_count, -1))
        pairs = len(self.blocks)
        for pair, (block, part) in enumerate(zip(self.blocks, h.chunk(pairs, -1), strict=True)):
            outputs[block] = outputs[block] + self.scaling * self.up(part).chunk(pairs, -1)[pair]
        return torch.cat(outputs, -1)

    def fold(self) -> None:
        """Multiply `up` by the scaling, and rewrite the pairs of blocks as one pair over the whole output."""
        with torch.no_grad():
            up = self.up.weight * self.scaling
            self.up = _plain(up if self.block_count == 1 else self._whole(up))
        self.scaling, self.blocks, self.block_count = 1.0, (0,), 1

    def merge(self, base: nn.Module) -> nn.Module:
        """Fold the adapter into the weights of `base`: W + lora_alpha / r · up · down."""
        self.fold()
        add_to_weight(base, self.up.weight.double() @ self.down.weight.double())
        return base

    def _whole(self, up: Tensor) -> Tensor:
        """Return (out, pairs · r) for `up` (pairs · out / blocks, r): each pair in its block, zeros elsewhere."""
        pairs, r = len(self.blocks), up.shape[1]
        width = up.shape[0] // pairs
        whole = up.new_zeros(self.block_count * width, pairs * r)
        for pair, block in enumerate(self.blocks):
            rows, columns = slice(block * width, (block + 1) * width), slice(pair * r, (pair + 1) * r)
            whole[rows, columns] = up[pair * width : (pair + 1) * width]
        return whole


def _plain(weight: Tensor) -> nn.Linear:
    """Return a linear layer with `weight` (out, in)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear

"""The bottleneck adapter of Houlsby et al. (2019), as AdaMix places it: behind a projection, before the residual."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape

STD = 0.02
NEAR_IDENTITY_STD = 1e-4


class Houlsby(nn.Module):
    """y + up(gelu(down(y))), with exact GELU and biases.

    Both projections start from N(0, 0.02) with zero biases and each module from its own draw, as in the original's
    NLU code: the modules differ from the first step and the start is close to the identity, not equal to it. With
    `near_identity`, `up` starts from N(0, 0.0001) instead.
    """

    sites: ClassVar[tuple[str, ...]] = ("feed_forward",)
    activation: Callable[[Tensor], Tensor] = staticmethod(functional.gelu)

    def __init__(self, shape: AdapterShape, projection: Projection) -> None:
        super().__init__()
        self.near_identity = shape.near_identity
        self.down = projection("down", shape.out_features, shape.r, bias=True)
        self.up = projection("up", shape.r, shape.out_features, bias=True)

    def reset_parameters(self) -> None:
        """Initialise the projections from torch's default generator."""
        nn.init.normal_(self.down.weight, std=STD)
        nn.init.normal_(self.up.weight, std=NEAR_IDENTITY_STD if self.near_identity else STD)
        for projection in (self.down, self.up):
            nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Adapt y (batch, …, out); the layer's input x is not used."""
        return y + self.change(y)

    def change(self, y: Tensor) -> Tensor:
        """Return what the adapter adds to y (batch, …, out)."""
        change: Tensor = self.up(self.activation(self.down(y)))
        return change

    def fold(self) -> None:
        """Do nothing: a bottleneck has no constant factor."""

    def merge(self, base: nn.Linear) -> nn.Module:
        """Return `base` with the adapter behind it; its nonlinearity keeps it from being folded into the weights."""
        return Grafted(base, self)


class Grafted(nn.Module):
    """A layer with an adapter behind it."""

    def __init__(self, base: nn.Linear, adapter: Houlsby) -> None:
        super().__init__()
        self.base_layer, self.adapter = base, adapter

    def forward(self, x: Tensor) -> Tensor:
        """Project x (batch, …, in) and adapt the result (batch, …, out)."""
        return self.adapter(x, self.base_layer(x))

    @property
    def weight(self) -> torch.Tensor:
        """Weight (out, in) of the layer, for code that reads its dtype."""
        return self.base_layer.weight

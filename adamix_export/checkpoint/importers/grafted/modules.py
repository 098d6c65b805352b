"""Adapters of the library as modules around the base's layers, and each in the form of a bank where it has one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.importers.bank_form import MERGE, affine
from adamix_export.errors import BankError
from adamix_export.tracing.merged import replace_module
from adamix_train.mixture.layers import TRANSPOSED, add_to_weight, features

KINDS = {"gelu": "houlsby", "relu": "pfeiffer", "silu": "swish", "swish": "swish"}
"""Activation of a bottleneck → kind of a bank that has it."""


class Graft(Protocol):
    """An adapter at one place of the base."""

    @property
    def module(self) -> str:
        """Name of the module that it replaces."""

    def attach(self, model: nn.Module) -> None:
        """Put the adapter beside the base's weights, which stay as they are."""

    def merge(self, model: nn.Module) -> None:
        """Put the adapter into the base's weights as far as possible."""

    def bank_form(self) -> AdapterTensors:
        """Return the adapter's tensors in the form of a bank; raise a `BankError` if a bank does not hold it."""


@dataclass(frozen=True, kw_only=True)
class LinearChange:
    """scale ⊙ (Wx + b + up · down · x): LoRA has no scale, DoRA has all, IA3 no pair."""

    module: str
    down: Tensor | None
    """(r, in)"""
    up: Tensor | None
    """(out, r), with the scaling folded in."""
    scale: Tensor | None
    """(out,)"""

    def attach(self, model: nn.Module) -> None:
        """Put a `ChangedLinear` around the layer."""
        replace_module(model, self.module, ChangedLinear(model.get_submodule(self.module), self))

    def merge(self, model: nn.Module) -> None:
        """Fold the change into weight and bias."""
        layer = model.get_submodule(self.module)
        if self.down is not None and self.up is not None:
            add_to_weight(layer, self.up.double() @ self.down.double())
        if self.scale is not None:
            with torch.no_grad():
                for name, parameter in layer.named_parameters():
                    rows = name == "weight" and not TRANSPOSED[type(layer)]
                    parameter.mul_(self.scale.unsqueeze(1) if rows else self.scale)

    def bank_form(self) -> AdapterTensors:
        """Return the pair, and the scale as an affine change."""
        tensors: AdapterTensors = {}
        if self.down is not None and self.up is not None:
            tensors = {f"{self.module}.lora.down.weight": self.down, f"{self.module}.lora.up.weight": self.up}
        if self.scale is not None:
            tensors |= affine(self.module, self.scale, torch.zeros_like(self.scale))
        return tensors


class ChangedLinear(nn.Module):
    """A layer with a change beside it."""

    def __init__(self, base: nn.Module, change: LinearChange) -> None:
        super().__init__()
        self.base, self.change = base, change

    def forward(self, x: Tensor) -> Tensor:
        """Project x (batch, …, in) to (batch, …, out)."""
        y: Tensor = self.base(x)
        if self.change.down is not None and self.change.up is not None:
            y = y + x @ self.change.down.T @ self.change.up.T
        return y if self.change.scale is None else y * self.change.scale

    @property
    def weight(self) -> Tensor:
        """The base's weight, for code that reads its dtype."""
        return self.base.weight  # type: ignore[return-value]


class Bottleneck(nn.Module):
    """up(activation(down(x))), with a layer norm before or after if the adapter has one."""

    def __init__(
        self,
        down: nn.Linear,
        up: nn.Linear,
        activation: Callable[[Tensor], Tensor],
        before: nn.Module,
        after: nn.Module,
        *,
        after_residual: bool,
    ) -> None:
        super().__init__()
        self.down, self.up, self.before, self.after = down, up, before, after
        self.activation, self.after_residual = activation, after_residual

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return x (batch, …, width) through the bottleneck, plus the residual."""
        change = self.up(self.activation(self.down(self.before(x))))
        return self.after(change + residual) if self.after_residual else self.after(change) + residual


class Behind(nn.Module):
    """y + f(y) for the output y of a projection."""

    refusal = ""
    """Reason why no bank holds it; empty if one does."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.base, self.bottleneck = base, bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and the bottleneck to x (batch, …, in)."""
        y = self.base(x)
        adapted: Tensor = self.bottleneck(y, y)
        return adapted

    @property
    def weight(self) -> Tensor:
        """The base's weight, for code that reads its dtype."""
        return self.base.weight  # type: ignore[return-value]


class BehindNorm(Behind):
    """The same for the output of a layer norm."""

    refusal = "is behind a layer norm (original_ln_after)"


class WithinNorm(Behind):
    """norm(s + f(norm(s))) for the input s of a layer norm, the sum of a projection and its residual."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (batch, …, width) twice, the second time with the adapter."""
        adapted: Tensor = self.base(self.bottleneck(self.base(x), x))
        return adapted


class BehindLayer(Behind):
    """The same for the output of a whole layer of a decoder."""

    refusal = "is behind a whole layer (original_ln_before)"

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the layer to x (batch, sequence, width) and further arguments, and the bottleneck to the result."""
        y = self.base(x, *args, **kwargs)
        adapted: Tensor = self.bottleneck(y, y)
        return adapted


@dataclass(frozen=True, kw_only=True)
class BottleneckGraft:
    """A bottleneck behind a layer or within a layer norm."""

    module: str
    around: type[Behind]
    bottleneck: Bottleneck
    activation: str
    """The library's name."""

    def attach(self, model: nn.Module) -> None:
        """Put the bottleneck around the layer."""
        replace_module(model, self.module, self.around(model.get_submodule(self.module), self.bottleneck))

    merge = attach

    def bank_form(self) -> AdapterTensors:
        """Return the projections under the name of a kind with this activation."""
        inner = self.bottleneck
        if not all(isinstance(norm, nn.Identity) for norm in (inner.before, inner.after)):
            raise BankError(f"the bottleneck at {self.module} has a layer norm, which a bank does not hold: {MERGE}")
        if self.around.refusal:
            raise BankError(
                f"the bottleneck at {self.module} {self.around.refusal}, which a bank does not hold: {MERGE}"
            )
        if self.activation not in KINDS:
            raise BankError(
                f"the bottleneck at {self.module} has the activation {self.activation}; a bank holds "
                f"{', '.join(KINDS)}: {MERGE}"
            )
        return {
            f"{self.module}.{KINDS[self.activation]}.{projection}.{name}": tensor
            for projection in ("down", "up")
            for name, tensor in inner.get_submodule(projection).named_parameters()
        }


@dataclass(frozen=True, kw_only=True)
class ParallelGraft:
    """A bottleneck beside a feed-forward: further neurons with an activation of their own."""

    module: str
    """First projection of the feed-forward."""
    activation: str
    """Module of the feed-forward's activation."""
    last: str
    """Last projection."""
    bottleneck: Bottleneck

    def attach(self, model: nn.Module) -> None:
        """Widen both projections by the bottleneck's, and split the activation."""
        first, last = model.get_submodule(self.module), model.get_submodule(self.last)
        replace_module(model, self.module, _joined(first, self.bottleneck.down, 0))
        replace_module(model, self.last, _joined(last, self.bottleneck.up, 1))
        activation = model.get_submodule(self.activation)
        replace_module(
            model, self.activation, SplitActivation(activation, self.bottleneck.activation, features(first)[1])
        )

    merge = attach

    def bank_form(self) -> AdapterTensors:
        """Raise a `BankError`."""
        raise BankError(
            f"the bottleneck at {self.module} is parallel (is_parallel), which a bank does not hold: {MERGE}"
        )


class SplitActivation(nn.Module):
    """One activation for the first neurons, another for the rest."""

    def __init__(self, first: nn.Module, rest: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.first, self.rest, self.width = first, rest, width

    def forward(self, x: Tensor) -> Tensor:
        """Apply both to x (batch, …, neurons)."""
        return torch.cat([self.first(x[..., : self.width]), self.rest(x[..., self.width :])], -1)


def _joined(layer: nn.Module, other: nn.Linear, dim: int) -> nn.Linear:
    """Return two layers as one: outputs side by side (dim 0), or inputs side by side and outputs summed (dim 1)."""
    weight = torch.cat([layer.weight, other.weight], dim)  # type: ignore[list-item]
    bias = torch.cat([layer.bias, other.bias]) if dim == 0 else layer.bias + other.bias  # type: ignore[operator,list-item]
    return linear(weight, bias)


def in_blocks(up: Tensor, blocks: Sequence[int], width: int) -> Tensor:
    """Return the pairs of a fused projection's blocks as one pair's `up` (width, pairs · r).

    Args:
        up: The pairs' own (pairs · block, r), one below the other.
        blocks: Indices of their blocks.
        width: Output width of the projection.
    """
    r, block = up.shape[1], up.shape[0] // len(blocks)
    whole = up.new_zeros(width, len(blocks) * r)
    for pair, own in enumerate(blocks):
        whole[own * block : (own + 1) * block, pair * r : (pair + 1) * r] = up[pair * block : (pair + 1) * block]
    return whole


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer with `weight` (out, in) and `bias` (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = (nn.Parameter(tensor.detach(), requires_grad=False) for tensor in (weight, bias))
    return layer


def norm(weight: Tensor, bias: Tensor) -> nn.LayerNorm:
    """Return a layer norm of `weight` and `bias` (width,), with the epsilon that torch has."""
    layer = nn.LayerNorm(weight.shape[0])
    layer.weight, layer.bias = (nn.Parameter(tensor.detach(), requires_grad=False) for tensor in (weight, bias))
    return layer

"""Mixtures: linear projections that exist in several versions, the modules."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

FEW = 4
"""Up to this many shares of a batch are projected one by one."""


class Projection(Protocol):
    """Factory of an adapter's projections; the adapter does not know how many modules they have."""

    def __call__(self, name: str, in_features: int, out_features: int, *, bias: bool) -> Any:
        """Return the projection `name` ("down" or "up"), its weight and bias not yet initialised."""


class MixtureLinear(nn.Module):
    """`num_modules` linear layers stacked in one parameter: `weight` (modules, out, in), `bias` (modules, out).

    In training, a batch is divided into as many equal shares as `route` has entries, and each share goes through the
    module that its entry names. In evaluation all rows go through the mean of the modules (AdaMix, section 3.3), so
    that the evaluated weights are the exported ones. The softmax of `scores` (modules,) weighs the mean; zeros, the
    default, make it uniform.

    Modules that a step did not use have a zero gradient rather than none: AdamW's momentum and weight decay move them
    as well, as in the original, unless `training.unselected` freezes them.
    """

    scores: Tensor

    def __init__(self, num_modules: int, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.num_modules, self.in_features, self.out_features = num_modules, in_features, out_features
        self.weight = nn.Parameter(torch.empty(num_modules, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_modules, out_features)) if bias else None
        self.register_buffer("scores", torch.zeros(num_modules))
        self._route: tuple[int, ...] = ()
        self.chosen: set[int] = set()
        """Modules on the routes since the set was last cleared."""
        self.indices: Tensor | None = None
        """The route as a tensor (shares,) on the device, which compiled code reads; None for code that is not."""

    @property
    def route(self) -> tuple[int, ...]:
        """Module of each share of the next batch."""
        return self._route

    @route.setter
    def route(self, route: tuple[int, ...]) -> None:
        self._route = route
        self.chosen.update(route)

    def forward(self, x: Tensor) -> Tensor:
        """Project x (batch, …, in) to (batch, …, out)."""
        if not self.training:
            return functional.linear(x, *self.mean())
        if self.indices is not None:
            return self._by_index(x, self.indices)
        if not self.route:
            raise RuntimeError("a mixture in training mode has no route: call the AdaMix model, not the layer alone")
        if len(set(self.route)) == 1:
            return functional.linear(x, *self.module(self.route[0]))
        shares = self._shares(x, len(self.route))
        y = self._one_by_one(shares) if len(self.route) <= FEW else self._at_once(shares)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _shares(self, x: Tensor, count: int) -> Tensor:
        """Return x (batch, …, in) as shares (count, rows, in)."""
        if x.shape[0] % count:
            raise ValueError(f"a batch of {x.shape[0]} rows cannot hold {count} shares of equal size")
        return x.reshape(count, -1, self.in_features)

    def _by_index(self, x: Tensor, indices: Tensor) -> Tensor:
        """Project x through the modules in `indices` (shares,), by the same operations whatever the route."""
        if self.num_modules == 1:
            return functional.linear(x, *self.module(0))
        y = self._shares(x, indices.shape[0]) @ self.weight[indices].transpose(1, 2)
        y = y if self.bias is None else y + self.bias[indices].unsqueeze(1)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _one_by_one(self, shares: Tensor) -> Tensor:
        """Project shares (shares, rows, in), each with its own matrix product: faster for the two views of a step."""
        pairs = zip(shares.unbind(), self.route, strict=True)
        return torch.stack([functional.linear(share, *self.module(index)) for share, index in pairs])

    def _at_once(self, shares: Tensor) -> Tensor:
        """Project shares (shares, rows, in) as one batched product: faster where every example has its own route."""
        y = shares @ self.weight[list(self.route)].transpose(1, 2)
        return y if self.bias is None else y + self.bias[list(self.route)].unsqueeze(1)

    def module(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return weight (out, in) and bias (out,) of one module."""
        return self.weight[index], None if self.bias is None else self.bias[index]

    def mean(self) -> tuple[Tensor, Tensor | None]:
        """Return the weighted mean of weights (out, in) and biases (out,) over the modules."""
        module_weights = self.scores.softmax(0).to(self.weight.dtype)
        weight = torch.tensordot(module_weights, self.weight, 1)
        return weight, None if self.bias is None else torch.tensordot(module_weights, self.bias, 1)

    def keep_only(self, index: int | None) -> None:
        """Give one module all the weight in the mean, or with None the same weight to all."""
        self.scores = torch.full_like(self.scores, 0.0 if index is None else -torch.inf)
        if index is not None:
            self.scores[index] = 0.0

    def collapse(self) -> nn.Linear:
        """Return a plain linear layer with the mean of the modules."""
        weight, bias = self.mean()
        linear = nn.Linear(self.in_features, self.out_features, bias=bias is not None)
        linear = linear.to(device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
        return linear

    def extra_repr(self) -> str:
        """Return the sizes that `repr` shows."""
        return f"modules={self.num_modules}, in_features={self.in_features}, out_features={self.out_features}"


def mixtures(model: nn.Module) -> list[MixtureLinear]:
    """Return the mixtures of a model that have several modules."""
    return [module for module in model.modules() if isinstance(module, MixtureLinear) and module.num_modules > 1]


def mixture_projection(num_modules: int, *, share: str) -> Projection:
    """Return a factory of mixtures in which the projection that `share` (one of SHARES) names has a single module."""

    def projection(name: str, in_features: int, out_features: int, *, bias: bool) -> MixtureLinear:
        return MixtureLinear(1 if name == share else num_modules, in_features, out_features, bias=bias)

    return projection


def linear_projection(name: str, in_features: int, out_features: int, *, bias: bool) -> nn.Linear:
    """Make a plain linear layer: the factory for an adapter with one module."""
    return nn.Linear(in_features, out_features, bias=bias)


def collapse(adapter: nn.Module) -> None:
    """Replace every mixture below `adapter` by the mean of its modules, in place."""
    for name, child in adapter.named_children():
        if isinstance(child, MixtureLinear):
            setattr(adapter, name, child.collapse())
        else:
            collapse(child)

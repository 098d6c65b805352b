"""The base model with adapters as inputs: stacked weights, and the slot of each sequence's adapter."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import HEAD, AdapterTensors
from adamix_export.errors import ExportError
from adamix_export.tracing.affine import AFFINE, INPUT, BankAffine, BankInput
from adamix_export.tracing.imported_kinds import IMPORTED_KINDS
from adamix_export.tracing.merged import by_site, replace_module
from adamix_export.tracing.stacks import Stacks
from adamix_train.mixture.adapters import Adapter, make_adapter
from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.layers import features
from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape
from serve.bundle.graph_io import LABELS, SLOTS


class BankLinear(nn.Module):
    """A linear layer with a weight for each sequence, gathered from a stack."""

    def __init__(self, stacks: Stacks, name: str, *, bias: bool) -> None:
        super().__init__()
        self.stacks, self.name, self.bias = stacks, name, bias

    def forward(self, x: Tensor) -> Tensor:
        """Project x (batch, sequence, in) or (batch, in)."""
        sequence = x if x.ndim == 3 else x.unsqueeze(1)
        y = torch.bmm(sequence, self.stacks.gather(f"{self.name}.weight"))
        if self.bias:
            y = y + self.stacks.gather(f"{self.name}.bias").unsqueeze(1)
        return y if x.ndim == 3 else y.squeeze(1)


class BankNorm(nn.Module):
    """A layer norm of a head, with a weight for each sequence, gathered from a stack."""

    def __init__(self, norm: nn.LayerNorm, stacks: Stacks, name: str) -> None:
        super().__init__()
        self.width, self.epsilon = norm.normalized_shape, norm.eps
        self.stacks, self.name, self.bias = stacks, name, norm.bias is not None

    def forward(self, x: Tensor) -> Tensor:
        """Normalize and scale x (batch, sequence, width) or (batch, width)."""
        y = functional.layer_norm(x, self.width, eps=self.epsilon) * self._gather("weight", x)
        return y + self._gather("bias", x) if self.bias else y

    def _gather(self, parameter: str, x: Tensor) -> Tensor:
        gathered = self.stacks.gather(f"{self.name}.{parameter}")
        return gathered.unsqueeze(1) if x.ndim == 3 else gathered


class AdaptedLayer(nn.Module):
    """A layer of the base with one adapter of each kind in the bank; those that a sequence's adapter lacks are zero."""

    def __init__(self, base: nn.Module, adapters: list[nn.Module], before: nn.Module) -> None:
        super().__init__()
        self.base, self.adapters, self.before = base, nn.ModuleList(adapters), before

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and its adapters to x (batch, sequence, in)."""
        y = self.base(self.before(x))
        for adapter in self.adapters:
            y = adapter(x, y)
        return y

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) of the layer, for code that reads its dtype."""
        return self.base.weight  # type: ignore[return-value]


class AdaptedNorm(nn.Module):
    """norm(s + change(norm(s))) for the sum s of a projection and its residual, as Pfeiffer et al. (2020) have it.

    The changes that a sequence's adapter lacks are zero, which leaves norm(s).
    """

    def __init__(self, base: nn.Module, adapters: list[Houlsby]) -> None:
        super().__init__()
        self.base, self.adapters = base, nn.ModuleList(adapters)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (batch, sequence, width) twice, the second time with the adapters."""
        y = self.base(x)
        for adapter in self.adapters:
            x = x + adapter.change(y)  # type: ignore[operator]
        normalized: Tensor = self.base(x)
        return normalized


def make_bank(model: PreTrainedModel, adapters: Iterable[AdapterTensors]) -> Stacks:
    """Replace the head, and every layer that one of `adapters` adapts, by layers that read stacks."""
    stacks = Stacks()
    sites = sorted({site for adapter in adapters for site in by_site(adapter)})
    for module in sorted({module for module, _ in sites}):
        layer = model.get_submodule(module)
        kinds = [kind for other, kind in sites if other == module]
        try:
            made = _bank_head(layer, module, stacks) if HEAD in kinds else layer
            if kinds != [HEAD]:  # one adapter may replace a layer that another one adapts
                if isinstance(layer, nn.LayerNorm):
                    made = _adapted_norm(made, module, kinds, layer.normalized_shape[0], stacks)
                else:
                    made = _adapted(made, module, kinds, features(layer), stacks)
        except TypeError as error:
            raise ExportError(f"{module}: {error}") from error
        replace_module(model, module, made)
    _mark_labels(model, stacks)
    return stacks


def _bank_head(layer: nn.Module, module: str, stacks: Stacks) -> BankLinear | BankNorm:
    if isinstance(layer, nn.LayerNorm):
        for name, weight in layer.named_parameters():
            stacks.shapes[f"{module}.{HEAD}.{name}"] = (SLOTS, *weight.shape)
        return BankNorm(layer, stacks, f"{module}.{HEAD}")
    return _bank_linear(stacks, f"{module}.{HEAD}", *features(layer), bias=layer.bias is not None)


def _adapted(layer: nn.Module, module: str, kinds: list[str], widths: tuple[int, int], stacks: Stacks) -> AdaptedLayer:
    in_features, out_features = widths
    adapters: list[nn.Module] = [
        _adapter(kind, module, widths, stacks) for kind in kinds if kind not in (HEAD, AFFINE, INPUT)
    ]
    if AFFINE in kinds:  # of the output with everything that was added to it
        adapters.append(BankAffine(stacks, module, out_features))
    before = BankInput(stacks, module, in_features) if INPUT in kinds else nn.Identity()
    return AdaptedLayer(layer, adapters, before)


def _adapted_norm(norm: nn.Module, module: str, kinds: list[str], width: int, stacks: Stacks) -> AdaptedNorm:
    adapters = [_adapter(kind, module, (width, width), stacks) for kind in kinds if kind != HEAD]
    if wrong := [adapter for adapter in adapters if not isinstance(adapter, Houlsby)]:
        raise TypeError(f"a {type(wrong[0]).__name__} cannot adapt a layer norm; a bottleneck can")
    return AdaptedNorm(norm, adapters)  # type: ignore[arg-type]


def _adapter(kind: str, module: str, widths: tuple[int, int], stacks: Stacks) -> Adapter:
    shape = AdapterShape(in_features=widths[0], out_features=widths[1], r=1, lora_alpha=1)
    projection = _projection(stacks, module, kind)
    return IMPORTED_KINDS[kind](shape, projection) if kind in IMPORTED_KINDS else make_adapter(kind, shape, projection)


def _projection(stacks: Stacks, module: str, kind: str) -> Projection:
    """Return a factory of bank layers for one site; each adapter kind has its own symbol for the rank."""

    def projection(name: str, in_features: int, out_features: int, *, bias: bool) -> BankLinear:
        rank = f"{kind}_r"
        width_in, width_out = (in_features, rank) if name == "down" else (rank, out_features)
        return _bank_linear(stacks, f"{module}.{kind}.{name}", width_in, width_out, bias=bias)

    return projection


def _bank_linear(stacks: Stacks, name: str, width_in: int | str, width_out: int | str, *, bias: bool) -> BankLinear:
    stacks.shapes[f"{name}.weight"] = (SLOTS, width_in, width_out)
    if bias:
        stacks.shapes[f"{name}.bias"] = (SLOTS, width_out)
    return BankLinear(stacks, name, bias=bias)


def _mark_labels(model: nn.Module, stacks: Stacks) -> None:
    """Make the width of the head's last layer, the number of labels, a symbol."""
    heads = [f"{name}.{HEAD}" for name, module in model.named_modules() if isinstance(module, BankLinear)]
    last = [head for head in heads if f"{head}.weight" in stacks.shapes][-1:]
    for name, shape in stacks.shapes.items():
        if name.rpartition(".")[0] in last:
            stacks.shapes[name] = (*shape[:-1], LABELS)

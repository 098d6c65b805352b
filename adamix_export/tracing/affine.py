"""An affine change of a bank layer's output, and a factor of its input, for each sequence its own."""

from torch import Tensor, nn

from adamix_export.tracing.stacks import Stacks
from serve.bundle.graph_io import SLOTS

AFFINE = "affine"
"""Kind of the change in names of tensors: `{module}.affine.out.weight` (out,) and `{module}.affine.out.bias` (out,)."""

INPUT = "input"
"""Kind of the factor in names of tensors: `{module}.input.scale.weight` (in,)."""


class BankAffine(nn.Module):
    """y + scale ⊙ y + shift: zeros, as of an adapter without such a change, leave y as it is."""

    def __init__(self, stacks: Stacks, module: str, out_features: int) -> None:
        super().__init__()
        self.stacks, self.name = stacks, f"{module}.{AFFINE}.out"
        for parameter in ("weight", "bias"):
            stacks.shapes[f"{self.name}.{parameter}"] = (SLOTS, out_features)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Change y (batch, sequence, out) or (batch, out); the layer's input x is not used."""
        scale, shift = (self.stacks.gather(f"{self.name}.{parameter}") for parameter in ("weight", "bias"))
        if y.ndim == 3:
            scale, shift = scale.unsqueeze(1), shift.unsqueeze(1)
        return y + scale * y + shift


class BankInput(nn.Module):
    """x + scale ⊙ x: zeros, as of an adapter without such a factor, leave x as it is."""

    def __init__(self, stacks: Stacks, module: str, in_features: int) -> None:
        super().__init__()
        self.stacks, self.name = stacks, f"{module}.{INPUT}.scale.weight"
        stacks.shapes[self.name] = (SLOTS, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Scale x (batch, sequence, in) or (batch, in)."""
        scale = self.stacks.gather(self.name)
        return x + (scale.unsqueeze(1) if x.ndim == 3 else scale) * x

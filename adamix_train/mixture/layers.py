"""The types of layers that can be adapted; a new one is a line in the table."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

TRANSPOSED: dict[type[nn.Module], bool] = {nn.Linear: False, Conv1D: True}
"""Layer type → true if its weight is stored as (in, out), as in GPT-2, rather than (out, in)."""


def features(layer: nn.Module) -> tuple[int, int]:
    """Return a layer's input and output width; raise TypeError for a layer that cannot be adapted."""
    if type(layer) not in TRANSPOSED:
        known = ", ".join(known.__name__ for known in TRANSPOSED)
        raise TypeError(f"a {type(layer).__name__} cannot be adapted; {known} can (adamix_train/mixture/layers.py)")
    shape: torch.Size = layer.weight.shape  # type: ignore[assignment]
    return (shape[0], shape[1]) if TRANSPOSED[type(layer)] else (shape[1], shape[0])


def add_to_weight(layer: nn.Module, delta: Tensor) -> None:
    """Add `delta` (out, in), in double precision, to the weight of a layer in place."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    with torch.no_grad():
        weight.copy_((weight.double() + (delta.T if TRANSPOSED[type(layer)] else delta)).to(weight.dtype))

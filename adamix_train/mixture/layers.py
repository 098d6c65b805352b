"""The layers of a base that an adapter can sit at; a new one is a line in the table."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

TRANSPOSED: dict[type[nn.Module], bool] = {nn.Linear: False, Conv1D: True}
"""Whether a type of layer keeps its weight as (in, out), as GPT-2's does, rather than (out, in)."""


def features(layer: nn.Module) -> tuple[int, int]:
    """Return the widths of a layer's input and output."""
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

"""Inputs of a bank's graph: stacked weights, and the slot of each sequence's adapter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adamix_export.tracing.torch_export import Shapes
from serve.bundle.graph_io import ADAPTER_IDS, BANK, BATCH


@dataclass
class Stacks:
    """The inputs that the bank's layers read while they are traced; set by the traced module before each forward."""

    adapter_ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """(batch,)"""
    values: dict[str, Tensor] = field(default_factory=dict)
    """Stacked weights (slots, in, out) and biases (slots, out), by name."""
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Shapes of all stacks that the model reads; a symbol stands for a width that depends on the adapters."""

    def inputs(self, belongs: Callable[[str], bool] = lambda name: True) -> Shapes:
        """Return the shapes, by name, of the bank's inputs; `belongs` selects among the stacks."""
        shapes: Shapes = {ADAPTER_IDS: (BATCH,)}
        return shapes | {BANK + name: shape for name, shape in self.shapes.items() if belongs(name)}

    def read(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the bank's inputs from all inputs of a graph."""
        self.adapter_ids = tensors[ADAPTER_IDS]
        self.values = {name.removeprefix(BANK): value for name, value in tensors.items() if name.startswith(BANK)}

    def gather(self, name: str) -> Tensor:
        """Return each sequence's weight (batch, in, out) or bias (batch, out)."""
        return self.values[name].index_select(0, self.adapter_ids)

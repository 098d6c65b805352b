"""The stacked weights of many adapters, bound to the bank graph's inputs; slot 0 is all zeros: the base model."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapter import Adapter
from serve.bundle import Edge
from serve.errors import BundleError

PREFIX = "bank."
SLOTS = "slots"


class Bank:
    """One stack (slots, …) an input of the graph.

    A stack is as wide as the widest of its adapters: a smaller rank and a shorter list of labels are padded with zeros,
    which is exact, since a zero column of `down` stays zero through the activation and meets a zero row of `up`.
    """

    def __init__(self, edges: Sequence[Edge], adapters: Sequence[Adapter], *, device: str = "cpu") -> None:
        self.edges = {edge.name.removeprefix(PREFIX): edge for edge in edges if edge.name.startswith(PREFIX)}
        self.slots = {adapter.card.name: slot for slot, adapter in enumerate(adapters, 1)}
        widths = self._widths(adapters)
        self.stacks: dict[str, NDArray[np.float32]] = {
            name: np.zeros([dim if isinstance(dim, int) else widths.get(dim, 1) for dim in edge.shape], np.float32)
            for name, edge in self.edges.items()
        }
        for adapter in adapters:
            self._write(self.slots[adapter.card.name], adapter)
        self.feeds = {
            PREFIX + name: ort.OrtValue.ortvalue_from_numpy(stack, device, 0) for name, stack in self.stacks.items()
        }
        """The inputs of every run, on the device."""

    def _widths(self, adapters: Sequence[Adapter]) -> dict[str, int]:
        """Return the sizes of the symbolic dimensions; a kind that no adapter has is missing and gets width 1."""
        widths = {SLOTS: len(adapters) + 1}
        for adapter in adapters:
            for name, tensor in adapter.tensors.items():
                if name not in self.edges:
                    raise BundleError(
                        f"adapter {adapter.card.name} ({adapter.card.kind}) adapts {name.rsplit('.', 3)[0]}, "
                        "which this bank's graph has no input for: export a bank with it"
                    )
                for dim, size in zip(self.edges[name].shape[1:], _as_fed(tensor).shape, strict=True):
                    if isinstance(dim, str):
                        widths[dim] = max(widths.get(dim, 1), size)
                    elif dim != size:
                        raise BundleError(
                            f"adapter {adapter.card.name}: {name} is {tensor.shape}, the graph takes {dim}"
                        )
        return widths

    def _write(self, slot: int, adapter: Adapter) -> None:
        for name, stack in self.stacks.items():
            stack[slot] = 0
            if name in adapter.tensors:
                values = _as_fed(adapter.tensors[name])
                corner = tuple(slice(size) for size in values.shape)
                stack[slot][corner] = values


def _as_fed(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight as (in, out), which the graph multiplies by without transposing; a bias as it is."""
    return tensor.T if tensor.ndim == 2 else tensor

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
    `spare` slots are left for adapters that are loaded later; one that is wider widens the stacks.
    """

    def __init__(
        self, edges: Sequence[Edge], adapters: Sequence[Adapter], *, device: str = "cpu", spare: int = 0
    ) -> None:
        self.device = device
        self.edges = {edge.name.removeprefix(PREFIX): edge for edge in edges if edge.name.startswith(PREFIX)}
        self.slots = {adapter.card.name: slot for slot, adapter in enumerate(adapters, 1)}
        self.widths = self._widths(adapters, {SLOTS: 1 + len(adapters) + spare})
        self.stacks = self._zeros()
        for adapter in adapters:
            self._write(self.slots[adapter.card.name], adapter)
        self.feeds = self._on_device()
        """The inputs of every run, on the device."""

    def load(self, adapter: Adapter) -> None:
        """Write an adapter into a free slot."""
        taken = {0, *self.slots.values()}
        free = [slot for slot in range(self.widths[SLOTS]) if slot not in taken]
        if not free:
            raise BundleError(
                f"adapter {adapter.card.name} finds no free slot: all {self.widths[SLOTS] - 1} are taken; export the "
                "bank with more --slots"
            )
        self._widen(self._widths([adapter], self.widths))
        self._write(free[0], adapter)
        self.feeds = self._on_device()
        self.slots[adapter.card.name] = free[0]

    def unload(self, name: str) -> None:
        """Free the slot of an adapter."""
        del self.slots[name]

    def _widen(self, widths: dict[str, int]) -> None:
        """Give the stacks other widths, padded with zeros."""
        if widths == self.widths:
            return
        self.widths, narrow = widths, self.stacks
        self.stacks = self._zeros()
        for name, stack in narrow.items():
            self.stacks[name][tuple(slice(size) for size in stack.shape)] = stack

    def _zeros(self) -> dict[str, NDArray[np.float32]]:
        """Return empty stacks; a kind that no adapter has gets width 1."""
        return {
            name: np.zeros([dim if isinstance(dim, int) else self.widths.get(dim, 1) for dim in edge.shape], np.float32)
            for name, edge in self.edges.items()
        }

    def _on_device(self) -> dict[str, ort.OrtValue]:
        return {
            PREFIX + name: ort.OrtValue.ortvalue_from_numpy(stack, self.device, 0)
            for name, stack in self.stacks.items()
        }

    def _widths(self, adapters: Sequence[Adapter], least: dict[str, int]) -> dict[str, int]:
        """Return the sizes of the symbolic dimensions: those of `least`, or those that `adapters` need."""
        widths = dict(least)
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

"""The stacks of a bank as inputs of a run: the arrays themselves on the host, or copies on a device."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.bundle.graph_io import BANK
from serve.runtime.device_memory import CUDA_DEVICE, HOST, Blocks, allocate, memory_of

Arrays = Mapping[str, NDArray[np.float32]]
"""Stacks (slots, …) by the name of their weight."""


class Stacks(Protocol):
    """Stacks by the name of their graph input."""

    feeds: dict[str, ort.OrtValue]

    def __init__(self, arrays: Arrays, device: str) -> None:
        """Bring stacks onto a kind of device.

        Raises:
            MemoryError: The device does not have enough memory.
        """

    def update(self, slot: int) -> None:
        """Bring the contents of a slot, which the arrays have been given, onto the device."""


class HostStacks:
    """Stacks that share the memory of their arrays."""

    def __init__(self, arrays: Arrays, device: str = HOST) -> None:
        self.feeds = {BANK + name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}

    def update(self, slot: int) -> None:
        """Do nothing: the arrays are what a run reads."""


class DeviceStacks:
    """Stacks in a device's memory, to which a slot is copied by itself."""

    def __init__(self, arrays: Arrays, device: str) -> None:
        self.arrays, self.memory = arrays, memory_of(device)
        self.feeds = {BANK + name: allocate(array.shape, array.dtype, device) for name, array in arrays.items()}
        for name, array in arrays.items():
            self._copy(name, array, 0)
        self.memory.synchronize()

    def update(self, slot: int) -> None:
        """Copy the contents of a slot, one copy for each stack."""
        for name, array in self.arrays.items():
            self._copy(name, array[slot], slot)
        self.memory.synchronize()

    def _copy(self, name: str, part: NDArray[np.float32], slot: int) -> None:
        """Begin to copy a part of a stack that begins with a slot."""
        target = int(self.feeds[BANK + name].data_ptr()) + slot * self.arrays[name][0].nbytes
        self.memory.copy(Blocks(target), Blocks(part.ctypes.data), size=part.nbytes)


STACKS: dict[str, type[Stacks]] = {HOST: HostStacks, CUDA_DEVICE: DeviceStacks}
"""Stacks by kind of device."""

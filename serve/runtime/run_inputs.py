"""Inputs of a run that change from run to run: token ids, masks and slots, bound where the graph reads them."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.runtime.device_memory import CUDA_DEVICE, HOST, Blocks, allocate, memory_of

ALIGNMENT = 256
"""Bytes to whose multiples the arrays begin, as CUDA's own allocations do."""
Arrays = Mapping[str, NDArray[np.int64]]
"""Arrays by the name of their graph input."""


class RunInputs(Protocol):
    """Memory of the inputs of one run at a time."""

    def __init__(self, device: str) -> None:
        """Allocate nothing yet."""

    def bind(self, binding: ort.IOBinding, arrays: Arrays) -> None:
        """Bind arrays as inputs; they are read until the run has ended.

        Arrays of the same names and shapes lie at the same addresses at every call.
        """


class HostInputs:
    """Inputs that are read where they lie."""

    def __init__(self, device: str = HOST) -> None:
        pass

    def bind(self, binding: ort.IOBinding, arrays: Arrays) -> None:
        """Bind arrays as inputs."""
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)


class DeviceInputs:
    """Inputs in a device's memory, where all arrays of a run arrive in one copy."""

    def __init__(self, device: str) -> None:
        self.device, self.memory = device, memory_of(device)
        self.staging = np.empty(0, np.uint8)
        self.value: ort.OrtValue | None = None

    def bind(self, binding: ort.IOBinding, arrays: Arrays) -> None:
        """Bind arrays as inputs."""
        offsets, size = {}, 0
        for name, array in arrays.items():
            offsets[name] = size
            size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        address = self._reserve(size)
        for name, array in arrays.items():
            self.staging[offsets[name] :][: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            place = address + offsets[name]
            binding.bind_input(name, self.device, 0, array.dtype.type, list(array.shape), place)
        self.memory.copy(Blocks(address), Blocks(self.staging.ctypes.data), size=size)
        self.memory.synchronize()

    def _reserve(self, size: int) -> int:
        """Return the address of memory of at least `size` bytes on the device; beside it grows that of the host."""
        if self.value is None or self.staging.nbytes < size:
            self.staging = np.zeros(size, np.uint8)
            self.value = allocate([size], np.uint8, self.device)
        return int(self.value.data_ptr())


INPUTS: dict[str, type[RunInputs]] = {HOST: HostInputs, CUDA_DEVICE: DeviceInputs}
"""Inputs by kind of device."""

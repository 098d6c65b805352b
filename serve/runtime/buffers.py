"""Row buffers on the host or on a device, slices of which are bound to a run as inputs and outputs.

Host buffers are numpy arrays. Device buffers are ONNX Runtime's memory, which is copied by running a graph of one
`Identity` over addresses of either side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.runtime.providers import CPU, CUDA

HOST = "cpu"
CUDA_DEVICE = "cuda"
COPY_PROVIDERS = {HOST: [CPU], CUDA_DEVICE: [CUDA]}
"""Execution providers that run the copies, by kind of device."""
TYPES: dict[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
"""Types of numpy by ONNX Runtime's names."""
States = Mapping[str, NDArray[np.generic]]
"""Part of a row, by the name of its buffer."""
IDENTITY = (
    b'\x08\n:<\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x04copyZ\x10\n\x01x\x12\x0b\n\t\x08\x02\x12\x05\n\x03\x12\x01n'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x02\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x15"
)
"""ONNX model y = Identity(x) for uint8 tensors (n,): opset 21, IR version 10."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape and type of one buffer."""

    shape: tuple[int, ...]
    """(rows, …)."""
    axis: int
    """Axis of the tokens."""
    dtype: np.dtype[np.generic]

    def tokens(self, count: int) -> tuple[slice, ...]:
        """Return the index that selects the first `count` tokens of a row; the row has no axis of rows."""
        return (slice(None),) * (self.axis - 1) + (slice(count),)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize


Layouts = Mapping[str, Layout]


class Buffers(Protocol):
    """Buffers of rows by name."""

    def __init__(self, layouts: Layouts, device: str) -> None:
        """Allocate buffers of zeros.

        Raises:
            MemoryError: The device does not have enough memory.
        """

    def resized(self, layouts: Layouts) -> Self:
        """Return buffers of other sizes, with the content that fits."""

    def bind(self, binding: ort.IOBinding, name: str, edges: Sequence[str], first: int, count: int) -> None:
        """Bind `count` rows from `first` on as the input `edges[0]` and, if there is another edge, as its output."""

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy at least the first `tokens` of a row to another."""

    def clear(self, row: int) -> None:
        """Write zeros into a row."""

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` of `states` into a row; the tokens after them may be lost."""


class HostBuffers:
    """Buffers in host memory: numpy arrays."""

    def __init__(self, layouts: Layouts, device: str = HOST) -> None:
        self.layouts = layouts
        self.arrays = {name: np.zeros(layout.shape, layout.dtype) for name, layout in layouts.items()}

    def resized(self, layouts: Layouts) -> Self:
        """Return buffers of other sizes, with the content that fits."""
        made = type(self)(layouts)
        for name, old in self.arrays.items():
            _copy_common(old, made.arrays[name])
        return made

    def bind(self, binding: ort.IOBinding, name: str, edges: Sequence[str], first: int, count: int) -> None:
        """Bind `count` rows from `first` on."""
        value = ort.OrtValue.ortvalue_from_numpy(self.arrays[name][first : first + count])
        binding.bind_ortvalue_input(edges[0], value)
        for edge in edges[1:]:
            binding.bind_ortvalue_output(edge, value)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row to another."""
        for name, array in self.arrays.items():
            cut = self.layouts[name].tokens(tokens)
            array[target][cut] = array[source][cut]

    def clear(self, row: int) -> None:
        """Write zeros into a row."""
        for array in self.arrays.values():
            array[row] = 0

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""
        return {name: array[row][self.layouts[name].tokens(tokens)].copy() for name, array in self.arrays.items()}

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` of `states` into a row."""
        for name, array in self.arrays.items():
            cut = self.layouts[name].tokens(tokens)
            array[row][cut] = states[name][cut]


class DeviceBuffers:
    """Buffers in a device's memory; rows are copied as a whole, since their tokens are not contiguous."""

    def __init__(self, layouts: Layouts, device: str, before: Self | None = None) -> None:
        """Allocate buffers with the content of `before` that fits, and zeros elsewhere."""
        self.layouts, self.device = layouts, device
        self.copier: ort.InferenceSession = before.copier if before else _copier(device)
        arrays = {name: np.zeros(layout.shape, layout.dtype) for name, layout in layouts.items()}
        for name, value in before.values.items() if before else ():
            _copy_common(value.numpy(), arrays[name])
        try:
            self.values: dict[str, ort.OrtValue] = {
                name: ort.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in arrays.items()
            }
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise MemoryError(str(error)) from error

    def resized(self, layouts: Layouts) -> Self:
        """Return buffers of other sizes, with the content that fits."""
        return type(self)(layouts, self.device, self)

    def bind(self, binding: ort.IOBinding, name: str, edges: Sequence[str], first: int, count: int) -> None:
        """Bind `count` rows from `first` on."""
        layout = self.layouts[name]
        memory = (self.device, 0, layout.dtype.type, [count, *layout.shape[1:]], self._address(name, first))
        binding.bind_input(edges[0], *memory)
        for edge in edges[1:]:
            binding.bind_output(edge, *memory)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row to another."""
        for name, layout in self.layouts.items():
            here, there = self._address(name, source), self._address(name, target)
            self._copy(layout.row_bytes, (self.device, here), (self.device, there))

    def clear(self, row: int) -> None:
        """Write zeros into a row."""
        for name, layout in self.layouts.items():
            self._upload(name, row, np.zeros(layout.shape[1:], layout.dtype))

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""
        found = {}
        for name, layout in self.layouts.items():
            whole = np.empty(layout.shape[1:], layout.dtype)
            self._copy(layout.row_bytes, (self.device, self._address(name, row)), (HOST, whole.ctypes.data))
            found[name] = whole[layout.tokens(tokens)].copy()
        return found

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` of `states` into a row, and zeros after them."""
        for name, layout in self.layouts.items():
            whole, cut = np.zeros(layout.shape[1:], layout.dtype), layout.tokens(tokens)
            whole[cut] = states[name][cut]
            self._upload(name, row, whole)

    def _address(self, name: str, row: int) -> int:
        return int(self.values[name].data_ptr()) + row * self.layouts[name].row_bytes

    def _upload(self, name: str, row: int, array: NDArray[np.generic]) -> None:
        self._copy(array.nbytes, (HOST, array.ctypes.data), (self.device, self._address(name, row)))

    def _copy(self, size: int, source: tuple[str, int], target: tuple[str, int]) -> None:
        """Copy bytes from one address to another, each with the kind of its device."""
        if not size:
            return
        binding = self.copier.io_binding()
        binding.bind_input("x", source[0], 0, np.uint8, [size], source[1])
        binding.bind_output("y", target[0], 0, np.uint8, [size], target[1])
        self.copier.run_with_iobinding(binding)


BUFFERS: dict[str, type[Buffers]] = {HOST: HostBuffers, CUDA_DEVICE: DeviceBuffers}
"""Buffers by kind of device."""


def _copier(device: str) -> ort.InferenceSession:
    """Return the session that copies bytes between addresses of the host and of a device."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(IDENTITY, options, providers=COPY_PROVIDERS[device])


def _copy_common(old: NDArray[np.generic], new: NDArray[np.generic]) -> None:
    """Copy the part of `old` that fits into `new`."""
    common = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape, strict=True))
    new[common] = old[common]

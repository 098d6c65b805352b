"""Row buffers on the host or on a device, slices of which are bound to a run as inputs and outputs.

Host buffers are numpy arrays. Device buffers are ONNX Runtime's memory, which is copied by address.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.runtime.device_memory import BFLOAT16, CUDA_DEVICE, HOST, Blocks, allocate, element_type, memory_of

TYPES: dict[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(bfloat16)": BFLOAT16,
}
"""Types of numpy by ONNX Runtime's names."""
States = Mapping[str, NDArray[np.generic]]
"""Part of a row, by the name of its buffer."""


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

    def row_shape(self, tokens: int) -> tuple[int, ...]:
        """Return the shape of a row of `tokens` tokens; it has no axis of rows."""
        return (*self.shape[1 : self.axis], tokens, *self.shape[self.axis + 1 :])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def row_blocks(self) -> int:
        """Number of blocks of a row in which its tokens lie one behind another: one a head."""
        return prod(self.shape[1 : self.axis])

    @property
    def block_bytes(self) -> int:
        """Bytes of such a block."""
        return self.shape[self.axis] * self.token_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token in a block."""
        return prod(self.shape[self.axis + 1 :]) * self.dtype.itemsize


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
    """Buffers in a device's memory, allocated by ONNX Runtime and copied by address."""

    def __init__(self, layouts: Layouts, device: str, before: Self | None = None) -> None:
        """Allocate buffers with the content of `before` that fits, and zeros elsewhere."""
        self.layouts, self.device, self.memory = layouts, device, memory_of(device)
        self.values = {name: allocate(layout.shape, layout.dtype, device) for name, layout in layouts.items()}
        for name, layout in layouts.items():
            self.memory.zero(self._address(name, 0), layout.shape[0] * layout.row_bytes)
        if before is not None:
            self._copy_common(before)
        self.memory.synchronize()

    def resized(self, layouts: Layouts) -> Self:
        """Return buffers of other sizes, with the content that fits."""
        return type(self)(layouts, self.device, self)

    def bind(self, binding: ort.IOBinding, name: str, edges: Sequence[str], first: int, count: int) -> None:
        """Bind `count` rows from `first` on."""
        layout = self.layouts[name]
        shape, address = [count, *layout.shape[1:]], self._address(name, first)
        memory = (self.device, 0, element_type(layout.dtype), shape, address)
        binding.bind_input(edges[0], *memory)
        for edge in edges[1:]:
            binding.bind_output(edge, *memory)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row to another."""
        for name, layout in self.layouts.items():
            self._copy(layout, self._row(name, target), self._row(name, source), tokens)
        self.memory.synchronize()

    def clear(self, row: int) -> None:
        """Write zeros into a row."""
        for name, layout in self.layouts.items():
            self.memory.zero(self._address(name, row), layout.row_bytes)
        self.memory.synchronize()

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""
        found = {}
        for name, layout in self.layouts.items():
            found[name] = np.empty(layout.row_shape(tokens), layout.dtype)
            self._copy(layout, _blocks_of(found[name], layout), self._row(name, row), tokens)
        self.memory.synchronize()
        return found

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` of `states` into a row."""
        given = {name: np.ascontiguousarray(states[name], layout.dtype) for name, layout in self.layouts.items()}
        for name, layout in self.layouts.items():
            self._copy(layout, self._row(name, row), _blocks_of(given[name], layout), tokens)
        self.memory.synchronize()

    def _copy_common(self, before: Self) -> None:
        """Begin to copy the rows and tokens that both have; a buffer is blocks of tokens, a row's behind another's."""
        for name, layout in self.layouts.items():
            old = before.layouts[name]
            count = min(layout.shape[0], old.shape[0]) * layout.row_blocks
            size = min(layout.shape[layout.axis], old.shape[old.axis]) * layout.token_bytes
            self.memory.copy(self._row(name, 0), before._row(name, 0), size=size, count=count)

    def _copy(self, layout: Layout, target: Blocks, source: Blocks, tokens: int) -> None:
        self.memory.copy(target, source, size=tokens * layout.token_bytes, count=layout.row_blocks)

    def _row(self, name: str, row: int) -> Blocks:
        return Blocks(self._address(name, row), self.layouts[name].block_bytes)

    def _address(self, name: str, row: int) -> int:
        return int(self.values[name].data_ptr()) + row * self.layouts[name].row_bytes


BUFFERS: dict[str, type[Buffers]] = {HOST: HostBuffers, CUDA_DEVICE: DeviceBuffers}
"""Buffers by kind of device."""


def to_numpy(value: ort.OrtValue) -> NDArray[np.generic]:
    """Return a copy of a value in host memory; ONNX Runtime's own refuses bf16."""
    array = np.empty(value.shape(), TYPES[value.data_type()])
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array


def _blocks_of(array: NDArray[np.generic], layout: Layout) -> Blocks:
    """Return the blocks of tokens of a row that lies in an array."""
    return Blocks(array.ctypes.data, array.shape[layout.axis - 1] * layout.token_bytes)


def _copy_common(old: NDArray[np.generic], new: NDArray[np.generic]) -> None:
    """Copy the part of `old` that fits into `new`."""
    common = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape, strict=True))
    new[common] = old[common]

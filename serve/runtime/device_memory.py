"""Memory of a device by address: copies to it, from it and inside it, without a run of ONNX Runtime.

Buffers are allocated by ONNX Runtime, which does not copy parts of them. On CUDA the copies are those of the CUDA
runtime, the library that ONNX Runtime itself runs on.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike

from serve.errors import ProviderError

HOST = "cpu"
CUDA_DEVICE = "cuda"
"""Kinds of devices, by ONNX Runtime's names."""
CUDA_RUNTIMES = ("libcudart.so.13", "libcudart.so.12")
"""File names of the CUDA runtime, the newest first; ONNX Runtime has loaded one of them."""
NON_BLOCKING = 1
"""Flag of a stream that does not wait for the default stream."""
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""bf16 by its two bytes: numpy has no such type."""
ONNX_BFLOAT16 = 16
"""Number of bf16 in ONNX, by which ONNX Runtime takes it from Python."""
ANY_DIRECTION = 4
"""cudaMemcpyDefault: the addresses tell which side is the host's."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of memory of one size, at equal distances."""

    address: int
    """Address of the first block."""
    stride: int = 0
    """Bytes from the beginning of one block to that of the next; meaningless for a single one."""


class DeviceMemory(Protocol):
    """Copies between any two of the addresses of a device and of the host."""

    def copy(self, target: Blocks, source: Blocks, *, size: int, count: int = 1) -> None:
        """Begin to copy `count` blocks of `size` bytes; both sides must stay as they are until `synchronize`."""

    def zero(self, address: int, size: int) -> None:
        """Begin to write zeros."""

    def synchronize(self) -> None:
        """Return when everything that was begun is done.

        Raises:
            RuntimeError: The device has failed.
        """


class HostMemory:
    """Memory of the host, where a copy is done when it returns."""

    def copy(self, target: Blocks, source: Blocks, *, size: int, count: int = 1) -> None:
        """Copy `count` blocks of `size` bytes."""
        for index in range(count if size else 0):
            ctypes.memmove(target.address + index * target.stride, source.address + index * source.stride, size)

    def zero(self, address: int, size: int) -> None:
        """Write zeros."""
        if size:
            ctypes.memset(address, 0, size)

    def synchronize(self) -> None:
        """Do nothing: everything is done."""


class CudaMemory:
    """Memory of the first CUDA device; copies run on a stream of their own, beside the runs of a graph."""

    def __init__(self, runtime: Any = None) -> None:
        """Make a stream.

        Args:
            runtime: The CUDA runtime as ctypes has it; None loads the one that ONNX Runtime uses.

        Raises:
            ProviderError: There is no CUDA runtime.
            RuntimeError: The device has failed.
        """
        self.runtime = runtime or load_cuda_runtime()
        self.stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(self.stream), ctypes.c_uint(NON_BLOCKING))

    def copy(self, target: Blocks, source: Blocks, *, size: int, count: int = 1) -> None:
        """Begin to copy `count` blocks of `size` bytes."""
        if not size or not count:
            return
        strides = (size, size) if count == 1 else (target.stride, source.stride)
        self._call(
            "cudaMemcpy2DAsync",
            ctypes.c_void_p(target.address),
            ctypes.c_size_t(strides[0]),
            ctypes.c_void_p(source.address),
            ctypes.c_size_t(strides[1]),
            ctypes.c_size_t(size),
            ctypes.c_size_t(count),
            ctypes.c_int(ANY_DIRECTION),
            self.stream,
        )

    def zero(self, address: int, size: int) -> None:
        """Begin to write zeros."""
        if size:
            count = ctypes.c_size_t(size)
            self._call("cudaMemsetAsync", ctypes.c_void_p(address), ctypes.c_int(0), count, self.stream)

    def synchronize(self) -> None:
        """Return when everything that was begun is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def _call(self, name: str, *args: Any) -> None:
        code = int(getattr(self.runtime, name)(*args))
        if code:
            raise RuntimeError(f"CUDA failed in {name}: {self._message(code)} (error {code})")

    def _message(self, code: int) -> str:
        describe = self.runtime.cudaGetErrorString
        describe.restype = ctypes.c_char_p
        return bytes(describe(ctypes.c_int(code)) or b"unknown").decode()


MEMORIES: dict[str, type[DeviceMemory]] = {HOST: HostMemory, CUDA_DEVICE: CudaMemory}
"""Memory by kind of device."""


@cache
def memory_of(device: str) -> DeviceMemory:
    """Return the memory of a kind of device, the same object at every call."""
    return MEMORIES[device]()


def allocate(shape: Sequence[int], dtype: DTypeLike, device: str) -> ort.OrtValue:
    """Return memory for a tensor on a kind of device; its contents are arbitrary.

    Raises:
        MemoryError: The device does not have enough memory.
    """
    try:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, element_type(dtype), device, 0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise MemoryError(str(error)) from error


def element_type(dtype: DTypeLike) -> Any:
    """Return a type of numpy as ONNX Runtime takes it."""
    return ONNX_BFLOAT16 if dtype == BFLOAT16 else np.dtype(dtype).type


def load_cuda_runtime() -> Any:
    """Return the CUDA runtime as a ctypes library; raise a ProviderError if there is none."""
    for name in CUDA_RUNTIMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise ProviderError(f"there is no CUDA runtime ({' or '.join(CUDA_RUNTIMES)}): install nvidia-cuda-runtime")

"""NVIDIA's driver, as much of it as the choice of a GPU needs: its version, and the GPU's name and memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
MAX_NAME = 256
"""Bytes of a GPU's name."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Attributes of a device, by their numbers in cuda.h."""


class DriverError(Exception):
    """A call of the driver failed."""


@dataclass(frozen=True)
class MemoryInfo:
    """Free and total memory of a GPU, in bytes."""

    free: int
    total: int


class CudaDriver:
    """The driver's library; GPUs are numbered from 0, and CUDA_VISIBLE_DEVICES hides some of them."""

    def __init__(self, library: Any) -> None:
        """Wrap the library, which is a `ctypes.CDLL` or has the same functions."""
        self.library = library

    @property
    def version(self) -> tuple[int, int]:
        """Newest CUDA that the driver supports, such as (13, 0)."""
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return number.value // 1000, number.value % 1000 // 10

    def gpu_count(self) -> int:
        """Return the number of visible GPUs; 0 if the driver does not start."""
        count = ctypes.c_int()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGetCount", ctypes.byref(count))
        except DriverError:
            return 0
        return count.value

    def name(self, index: int = 0) -> str:
        """Return the name of a GPU, such as NVIDIA H100 80GB HBM3."""
        text = ctypes.create_string_buffer(MAX_NAME)
        self._call("cuDeviceGetName", text, MAX_NAME, self._device(index))
        return text.value.decode(errors="replace")

    def compute_capability(self, index: int = 0) -> tuple[int, int]:
        """Return the generation of a GPU, such as (8, 0) for Ampere."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        for number, attribute in ((major, CAPABILITY_MAJOR), (minor, CAPABILITY_MINOR)):
            self._call("cuDeviceGetAttribute", ctypes.byref(number), attribute, self._device(index))
        return major.value, minor.value

    def memory(self, index: int = 0) -> MemoryInfo:
        """Return a GPU's memory at this moment."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self._context(index):
            self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return MemoryInfo(free.value, total.value)

    @contextmanager
    def _context(self, index: int) -> Iterator[None]:
        """Make a GPU's primary context current; it is the one that CUDA's runtime uses, and stays for it."""
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device(index))
        self._call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(context))

    def _device(self, index: int) -> ctypes.c_int:
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), index)
        return device

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self.library, name)(*arguments):
            raise DriverError(f"{name} of the NVIDIA driver returned error {code}")


def find_driver() -> CudaDriver | None:
    """Return the driver of this machine; None if there is none."""
    try:
        return CudaDriver(ctypes.CDLL(LIBRARY))
    except OSError:
        return None

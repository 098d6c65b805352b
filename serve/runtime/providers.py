"""The execution providers, and the choice between them."""

import ctypes
import os
from dataclasses import dataclass

import onnxruntime as ort

from serve.errors import ProviderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
PROVIDERS = {"auto": None, "cpu": CPU, "cuda": CUDA}


@dataclass(frozen=True)
class Choice:
    """A provider and the reason for it."""

    provider: str
    reason: str
    required: bool = False
    """Whether another provider will not do."""


def choose_provider(wish: str = "auto") -> Choice:
    """Return CUDA where it can run and the CPU elsewhere; `wish` is a key of PROVIDERS."""
    if wish == "cpu":
        return Choice(CPU, "as asked")
    obstacle = _cuda_obstacle()
    if obstacle is None:
        return Choice(CUDA, "as asked", required=True) if wish == "cuda" else Choice(CUDA, "a GPU was found")
    if wish == "cuda":
        raise ProviderError(f"CUDA was asked for, but {obstacle}")
    return Choice(CPU, obstacle)


def _cuda_obstacle() -> str | None:
    """Return why CUDA cannot be used, or None if nothing speaks against it."""
    if CUDA not in ort.get_available_providers():
        return "the installed ONNX Runtime has no CUDA (the extra gpu brings it)"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no GPU"
    return None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))

"""Execution providers of ONNX Runtime, and the choice between them."""

import ctypes
import os
from dataclasses import dataclass

import onnxruntime as ort

from serve.errors import ProviderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
PROVIDERS = {"auto": None, "cpu": CPU, "cuda": CUDA}
"""Execution providers by the value of `--provider`; None takes CUDA if it can run."""


@dataclass(frozen=True)
class ProviderChoice:
    """A provider and the reason for it."""

    provider: str
    reason: str
    required: bool = False
    """Opening on another provider is an error."""


def choose_provider(requested: str = "auto") -> ProviderChoice:
    """Return CUDA if it can run, and otherwise the CPU; `requested` is a key of PROVIDERS.

    Raises:
        ProviderError: CUDA is requested and cannot run.
    """
    if requested == "cpu":
        return ProviderChoice(CPU, "as requested")
    obstacle = _cuda_obstacle()
    if obstacle is None:
        return (
            ProviderChoice(CUDA, "as requested", required=True)
            if requested == "cuda"
            else ProviderChoice(CUDA, "a GPU was found")
        )
    if requested == "cuda":
        raise ProviderError(f"CUDA was requested, but {obstacle}")
    return ProviderChoice(CPU, obstacle)


def _cuda_obstacle() -> str | None:
    """Return the reason why CUDA cannot run, or None if it can."""
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


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))

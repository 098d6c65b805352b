"""Execution providers of ONNX Runtime, and the choice between them."""

import os
from dataclasses import dataclass

import onnxruntime as ort

from serve.errors import ProviderError
from serve.runtime.cuda_driver import CudaDriver, find_driver
from serve.runtime.cuda_libraries import NO_CUDA, built_for, missing_cuda_package
from serve.runtime.openvino import OPENVINO, obstacle_of_openvino

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
PROVIDERS = {"auto": None, "cpu": CPU, "cuda": CUDA, "openvino": OPENVINO}
"""Execution providers by the value of `--provider`; None takes CUDA if it can run."""
LEAST_DRIVERS = {12: "525", 13: "580"}
"""Oldest branch of NVIDIA's driver that runs programs for a version of CUDA, its minor versions included."""
LAST_FOR_CUDA_12 = "onnxruntime-gpu<1.27"


@dataclass(frozen=True, kw_only=True)
class CudaInstallation:
    """The parts of this machine that CUDA needs."""

    driver: CudaDriver | None
    version: tuple[int, int] | None
    """Version of CUDA that the installed ONNX Runtime is built for, such as (13, 0); None if it has no CUDA."""

    @property
    def has_gpu(self) -> bool:
        """True if the driver finds a GPU."""
        return self.driver is not None and self.driver.gpu_count() > 0


@dataclass(frozen=True)
class ProviderChoice:
    """A provider and the reason for it."""

    provider: str
    reason: str
    required: bool = False
    """Opening on another provider is an error."""
    is_fallback: bool = False
    """The CPU in the place of a GPU that is there: logged as a warning."""


def find_cuda() -> CudaInstallation:
    """Return what this machine has."""
    has_cuda = CUDA in ort.get_available_providers()
    return CudaInstallation(driver=find_driver(), version=built_for() if has_cuda else None)


def choose_provider(requested: str = "auto", cuda: CudaInstallation | None = None) -> ProviderChoice:
    """Return the provider that is requested; for "auto" CUDA if it can run, and otherwise the CPU.

    Args:
        requested: A key of PROVIDERS.
        cuda: The parts that CUDA needs; None looks for them on this machine.

    Raises:
        ProviderError: CUDA or OpenVINO is requested and cannot run.
    """
    if requested == "cpu":
        return ProviderChoice(CPU, "as requested")
    if requested == "openvino":
        if obstacle := obstacle_of_openvino():
            raise ProviderError(f"OpenVINO was requested, but {obstacle}")
        return ProviderChoice(OPENVINO, "as requested", required=True)
    is_required = requested == "cuda"
    choice = ProviderChoice(CUDA, "as requested" if is_required else "a GPU was found", required=is_required)
    found = cuda or find_cuda()
    if found.version is None:
        has_use = is_required or found.has_gpu
        return without_cuda(choice, missing_cuda_package() if has_use else NO_CUDA, is_fallback=found.has_gpu)
    obstacle = driver_obstacle(found.driver, found.version)
    return choice if obstacle is None else without_cuda(choice, obstacle, is_fallback=found.has_gpu)


def without_cuda(choice: ProviderChoice, obstacle: str, *, is_fallback: bool = True) -> ProviderChoice:
    """Return the CPU in the place of CUDA, for which there is an obstacle.

    Raises:
        ProviderError: The choice requires CUDA.
    """
    if choice.required:
        raise ProviderError(f"CUDA was requested, but {obstacle}")
    return ProviderChoice(CPU, obstacle, is_fallback=is_fallback)


def driver_obstacle(driver: CudaDriver | None, cuda: tuple[int, int]) -> str | None:
    """Return the reason why the driver does not run ONNX Runtime on a GPU; None if it does.

    Args:
        driver: NVIDIA's driver; None if there is none.
        cuda: Version of CUDA that the installed ONNX Runtime is built for.
    """
    if driver is None:
        return "there is no NVIDIA driver (libcuda.so.1): install it, or use --provider cpu"
    if driver.version[0] < cuda[0]:
        supported, built = (".".join(map(str, version)) for version in (driver.version, cuda))
        branch = LEAST_DRIVERS.get(cuda[0])
        advice = f"install a driver of branch {branch} or newer" if branch else "install a newer driver"
        other = f", or {LAST_FOR_CUDA_12}, the last for CUDA 12" if driver.version[0] == 12 else ""
        return (
            f"the NVIDIA driver is too old: it supports CUDA {supported}, and the installed ONNX Runtime is built for "
            f"CUDA {built}: {advice}{other}"
        )
    if not driver.gpu_count():
        return "the NVIDIA driver finds no GPU (does CUDA_VISIBLE_DEVICES hide it?)"
    return None


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))

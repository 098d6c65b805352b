"""CUDA's libraries that ONNX Runtime loads at its start: which are missing, and which wheel brings each."""

import contextlib
import ctypes
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

LIBRARIES: dict[int, dict[str, str]] = {
    12: {
        "libcudart.so.12": "nvidia-cuda-runtime-cu12",
        "libcublasLt.so.12": "nvidia-cublas-cu12",
        "libcublas.so.12": "nvidia-cublas-cu12",
        "libcudnn.so.9": "nvidia-cudnn-cu12",
        "libcufft.so.11": "nvidia-cufft-cu12",
        "libcurand.so.10": "nvidia-curand-cu12",
    },
    13: {
        "libcudart.so.13": "nvidia-cuda-runtime",
        "libcublasLt.so.13": "nvidia-cublas",
        "libcublas.so.13": "nvidia-cublas",
        "libcudnn.so.9": "nvidia-cudnn-cu13",
        "libcufft.so.12": "nvidia-cufft",
        "libcurand.so.10": "nvidia-curand",
    },
}
"""Wheel of each library that ONNX Runtime's CUDA provider is linked with, by the version of CUDA it is built for."""
PROVIDER_LIBRARY = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
PACKAGES = ("onnxruntime", "onnxruntime-gpu")
"""Packages of ONNX Runtime for the CPU and for CUDA. Both write the folder `onnxruntime`."""
NO_CUDA = "the installed ONNX Runtime has no CUDA (the extra gpu brings it)"
SWAP = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install '.[gpu]'"
"""Command that puts the package with CUDA in the place of the other."""


def built_for() -> tuple[int, int]:
    """Return the version of CUDA that the installed ONNX Runtime is built for, such as (13, 0); (0, 0) without CUDA."""
    major, _, rest = str(getattr(ort, "cuda_version", "")).partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor) if minor.isdigit() else 0) if major.isdigit() else (0, 0)


def missing_cuda_package() -> str:
    """Return the reason why the installed ONNX Runtime has no CUDA, and what to do."""
    if all(map(_is_installed, PACKAGES)):
        found = "onnxruntime and onnxruntime-gpu are both installed, and the files without CUDA were written last"
    else:
        found = NO_CUDA
    return f"{found}: both packages write the same folder, so swap them: {SWAP}"


def missing_libraries(cuda: int, load: Callable[[str], object] = ctypes.CDLL) -> dict[str, str]:
    """Return the libraries of a version of CUDA that cannot be loaded, each with the wheel that brings it.

    `onnxruntime.preload_dlls` has to come before: it loads those that wheels have brought.
    """
    return {name: wheel for name, wheel in LIBRARIES.get(cuda, {}).items() if not _loads(name, load)}


def start_failure(cuda: tuple[int, int] | None = None, load: Callable[[str], object] = ctypes.CDLL) -> str:
    """Return the reason why ONNX Runtime's CUDA provider did not start, and what to do.

    Args:
        cuda: Version of CUDA that ONNX Runtime is built for; None takes that of the installed one.
        load: Loads a library; raises an OSError if it cannot.
    """
    major, minor = cuda or built_for()
    if missing := missing_libraries(major, load):
        wheels = " ".join(dict.fromkeys(missing.values()))
        return f"CUDA did not start: {', '.join(missing)} not found: pip install {wheels}, or the extra gpu"
    try:
        load(str(PROVIDER_LIBRARY))
    except OSError as error:
        return f"CUDA did not start: {error}"
    return (
        f"CUDA {major}.{minor} did not start, though its libraries are there; "
        "ONNX Runtime says why on stderr in the lines before"
    )


def preload() -> None:
    """Load the libraries that wheels have brought; what ONNX Runtime prints about the others goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def _loads(name: str, load: Callable[[str], object]) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True

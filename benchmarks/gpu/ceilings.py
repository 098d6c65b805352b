"""The ceilings of a device: the rate of a large product in fp16 and of a large copy, measured by torch."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import onnxruntime as ort
import torch

from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.support.rounds import Call, Timing, measure

SIZES = {"cuda": (8192, 1 << 31), "cpu": (1024, 1 << 26)}
"""Width of the square product, and bytes of the copy, by provider."""
TINY_SIZES = (64, 1 << 12)
PACKAGES = ("torch", "transformers", "peft", "onnxruntime-gpu", "onnxruntime", "onnx", "onnx-ir", "onnxscript", "numpy")
PRODUCT, COPY = "product", "copy"


def measure_ceilings(setting: Setting) -> Outcome:
    """Measure both ceilings; return them with the versions and ONNX Runtime's providers."""
    timings = measure({"ceilings": ceilings(setting)}, setting.pace)["ceilings"]
    rates = {PRODUCT: matrix_rate(setting, timings[PRODUCT]), COPY: copy_rate(setting, timings[COPY])}
    width, size = _sizes(setting)
    what = {PRODUCT: f"fp16 {width}x{width}x{width}, TFLOP/s", COPY: f"{size / 1e6:.0f} MB, read and written, GB/s"}
    return Outcome(
        rows=[
            {"ceiling": what[name], "rate": rates[name] / (1e12 if name == PRODUCT else 1e9), "noise": timing.noise}
            for name, timing in timings.items()
        ],
        notes=[f"Providers of ONNX Runtime: {', '.join(ort.get_available_providers())}.", f"CUDA of torch: {_cuda()}."],
        versions=installed(PACKAGES),
    )


def ceilings(setting: Setting) -> dict[str, Call]:
    """Return the calls of both ceilings."""
    width, size = _sizes(setting)
    a, b = (torch.randn(width, width, device=setting.device).half() for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    return {
        PRODUCT: synchronous(lambda: torch.mm(a, b), setting),
        COPY: synchronous(lambda: target.copy_(source), setting),
    }


def matrix_rate(setting: Setting, timing: Timing) -> float:
    """Return the floating-point operations a second of the product."""
    width, _ = _sizes(setting)
    return 2 * width**3 / timing.seconds


def copy_rate(setting: Setting, timing: Timing) -> float:
    """Return the bytes a second of the copy, which reads and writes each."""
    _, size = _sizes(setting)
    return 2 * size / timing.seconds


def synchronous(call: Callable[[], object], setting: Setting) -> Call:
    """Return a call that ends when the device has done its work."""
    if setting.provider != "cuda":
        return call

    def wait() -> object:
        found = call()
        torch.cuda.synchronize()
        return found

    return wait


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "onnxruntime (imported)": ort.__version__}


def _sizes(setting: Setting) -> tuple[int, int]:
    return TINY_SIZES if setting.tiny else SIZES[setting.provider]


def _cuda() -> str:
    return str(torch.version.cuda or NONE)


NONE = "none"

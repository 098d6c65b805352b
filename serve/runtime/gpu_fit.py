"""The device for a bundle: a GPU, unless it has no kernels for the bundle's precision or too little memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from serve.bundle.manifest import ENCODER, MODEL, Manifest
from serve.bundle.reader import Bundle
from serve.engine import DeviceInfo
from serve.errors import ProviderError
from serve.runtime.cuda_driver import CudaDriver, DriverError, MemoryInfo
from serve.runtime.providers import (
    CUDA,
    PROVIDERS,
    CudaInstallation,
    ProviderChoice,
    choose_provider,
    find_cuda,
    without_cuda,
)

INTEGER_PRODUCTS = (
    "its products of 8-bit integers have kernels for the CPU alone: export it again with --precision fp16, or serve it "
    "with --provider cpu"
)
CPU_ONLY: dict[tuple[str, str], str] = {
    ("text-classification", "int8"): INTEGER_PRODUCTS,
    ("text-generation", "w8a8"): INTEGER_PRODUCTS,
    ("text2text-generation", "w8a8"): INTEGER_PRODUCTS,
}
"""Advice on bundles that no GPU runs, by task and precision."""
GPU_ONLY: dict[str, tuple[int, int]] = {"bf16": (8, 0)}
"""Precisions that only GPUs run, with the oldest compute capability that does."""
GRAPHS = (MODEL, ENCODER)
"""Beginnings of the names of files that go to the device."""


@dataclass(frozen=True)
class DeviceChoice:
    """The provider for a bundle, and the GPU that it takes."""

    choice: ProviderChoice
    gpu: DeviceInfo | None
    """None on the CPU."""


def choose_device(
    bundle: Bundle, requested: str, *, slots: int | None, cuda: CudaInstallation | None = None
) -> DeviceChoice:
    """Return CUDA and its GPU if they can run a bundle, and otherwise the CPU.

    Args:
        bundle: The bundle.
        requested: A key of `PROVIDERS`.
        slots: Adapters on the device at a time; None for those of the bundle and its spare slots.
        cuda: The parts that CUDA needs; None looks for them on this machine.

    Raises:
        ProviderError: CUDA is requested and cannot run the bundle, or nothing but CUDA can.
    """
    chosen = _choose_device(bundle, requested, slots=slots, cuda=cuda)
    if bundle.manifest.precision not in GPU_ONLY:
        return chosen
    if chosen.choice.provider != CUDA:
        reason = f" (no GPU is used: {chosen.choice.reason})" if PROVIDERS[requested] in (None, CUDA) else ""
        raise ProviderError(
            f"the bundle is {bundle.manifest.precision}, which ONNX Runtime computes on CUDA alone: serve it on a GPU, "
            f"or export it again with --precision fp32 or int8{reason}"
        )
    return replace(chosen, choice=replace(chosen.choice, required=True))


def _choose_device(bundle: Bundle, requested: str, *, slots: int | None, cuda: CudaInstallation | None) -> DeviceChoice:
    found = cuda or find_cuda()
    choice = choose_provider(requested, found)
    if choice.provider != CUDA or found.driver is None:
        return DeviceChoice(choice, None)
    try:
        check_gpu(bundle, found.driver, slots=slots)
        return DeviceChoice(choice, DeviceInfo(name=found.driver.name(), memory_bytes=found.driver.memory().total))
    except (ProviderError, DriverError) as error:
        return DeviceChoice(without_cuda(choice, str(error)), None)


def check_gpu(bundle: Bundle, driver: CudaDriver, *, slots: int | None) -> None:
    """Check that a GPU runs a bundle.

    Args:
        bundle: The bundle.
        driver: NVIDIA's driver.
        slots: Adapters on the device at a time; None for those of the bundle and its spare slots.

    Raises:
        ProviderError: It does not; the message says what to do.
    """
    check_precision(bundle.manifest)
    check_capability(bundle.manifest.precision, driver)
    needed = needed_bytes(bundle, slots=slots)
    check_memory(needed, driver.memory(), name=f"{bundle.folder} on {driver.name()}")


def check_precision(manifest: Manifest) -> None:
    """Raise a ProviderError if a GPU has no kernels for a bundle's precision."""
    if advice := CPU_ONLY.get((manifest.task, manifest.precision)):
        raise ProviderError(f"the bundle is {manifest.precision}, and {advice}")


def check_capability(precision: str, driver: CudaDriver) -> None:
    """Raise a ProviderError if a GPU is older than those that have a precision."""
    least = GPU_ONLY.get(precision)
    if least is not None and (found := driver.compute_capability()) < least:
        found_text, least_text = (".".join(map(str, one)) for one in (found, least))
        raise ProviderError(
            f"the bundle is {precision}, and {driver.name()} has compute capability {found_text}; {least_text} is the "
            "least: take a newer GPU, or export it again with --precision fp16"
        )


def needed_bytes(bundle: Bundle, *, slots: int | None) -> dict[str, int]:
    """Return the bytes that a bundle needs on the device at least, before anything runs, by what needs them."""
    manifest = bundle.manifest
    graphs = sum((bundle.folder / name).stat().st_size for name in manifest.files if name.startswith(GRAPHS))
    if manifest.shape != "bank":
        return {"the graph": graphs}
    count = len(bundle.adapters) + manifest.spare_slots if slots is None else slots
    sizes = [sum(one.nbytes for one in adapter.tensors.values()) for adapter in bundle.adapters.values()]
    return {"the graph": graphs, f"{count} adapter slots": (1 + count) * max(sizes, default=0)}


def check_memory(needed: Mapping[str, int], memory: MemoryInfo, *, name: str) -> None:
    """Raise a ProviderError if a device has less memory free than is needed.

    Args:
        needed: Bytes by what needs them.
        memory: The device's memory.
        name: The bundle and the device, for the message.
    """
    if (total := sum(needed.values())) <= memory.free:
        return
    parts = ", ".join(f"{_size(count)} for {what}" for what, count in needed.items())
    raise ProviderError(
        f"{name} needs at least {_size(total)} of memory ({parts}), and {_size(memory.free)} of {_size(memory.total)} "
        "are free: end what else runs there, take fewer --slots, or export a smaller --precision"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

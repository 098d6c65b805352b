"""The device that a run trains on."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

CPU = "cpu"
TF32 = "tf32"
FIRST_WITH_TF32 = 8
"""Compute capability of the first GPUs that have TF32, Ampere."""


@dataclass(frozen=True, kw_only=True)
class TrainingDevice:
    """A kind of device, and how it multiplies."""

    kind: str
    """Type of the device in torch, such as cpu or cuda."""
    name: str = ""
    """Name of the GPU; empty for the CPU."""
    tf32: bool = False
    """Products of fp32 matrices are rounded to TF32's 10 bits, which torch does only when it is told to."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, as results.json has them."""
        return asdict(self)

    def __str__(self) -> str:
        if self.kind != "cuda":
            return self.name or self.kind
        return f"{self.name} ({self.kind}, TF32 {'on' if self.tf32 else 'off'})"


def training_device(cuda: Any = torch.cuda) -> TrainingDevice:
    """Return the device that the Trainer takes on this machine; `cuda` is torch's module for GPUs of NVIDIA."""
    if cuda.is_available():
        tf32 = cuda.get_device_capability()[0] >= FIRST_WITH_TF32 and fp32_products() == TF32
        return TrainingDevice(kind="cuda", name=cuda.get_device_name(), tf32=tf32)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return TrainingDevice(kind=accelerator.type if accelerator else CPU)


def fp32_products() -> str:
    """Return the precision of products of fp32 matrices on a GPU: ieee, tf32, or none, which is torch's own: ieee."""
    return str(torch.backends.cuda.matmul.fp32_precision)

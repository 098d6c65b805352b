from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from adamix_train.training.device import TrainingDevice, fp32_products, training_device
from tests.fixtures.training import on_gpu


@dataclass
class FakeCuda:
    """torch's module for GPUs, as far as it is asked."""

    capability: tuple[int, int] = (9, 0)
    name: str = "NVIDIA H100 80GB HBM3"
    has_bf16: bool = True
    emulates_bf16: bool = True
    available: bool = True

    def is_available(self) -> bool:
        return self.available

    def get_device_capability(self) -> tuple[int, int]:
        return self.capability

    def get_device_name(self) -> str:
        return self.name

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.has_bf16 or (including_emulation and self.emulates_bf16)


@pytest.fixture(params=["matmul alone", "everything", "the older switch"])
def _with_tf32(request: pytest.FixtureRequest) -> Iterator[None]:
    """Turn TF32 on, in each of the ways that torch has."""
    match request.param:
        case "matmul alone":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        case "everything":
            torch.backends.fp32_precision = "tf32"
        case _:
            torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = torch.backends.fp32_precision = "none"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_without_a_gpu_it_is_the_cpu() -> None:
    assert training_device() == TrainingDevice(kind="cpu")
    assert str(training_device()) == "cpu"


def test_tf32_is_off_unless_it_is_turned_on() -> None:
    device = training_device(FakeCuda())
    assert device == TrainingDevice(kind="cuda", name="NVIDIA H100 80GB HBM3", tf32=False)
    assert str(device) == "NVIDIA H100 80GB HBM3 (cuda, TF32 off)"


@pytest.mark.usefixtures("_with_tf32")
def test_tf32_that_is_on_is_told() -> None:
    assert fp32_products() == "tf32"
    assert str(training_device(FakeCuda())) == "NVIDIA H100 80GB HBM3 (cuda, TF32 on)"
    assert training_device(FakeCuda()).as_dict()["tf32"] is True
    assert not training_device(FakeCuda(capability=(7, 5), name="Tesla T4")).tf32, "no GPU before Ampere has it"


@on_gpu
def test_the_gpu_of_this_machine_is_named() -> None:
    assert training_device().kind == "cuda"
    assert training_device().name == torch.cuda.get_device_name()

import onnxruntime as ort
import pytest

from serve.errors import ProviderError
from serve.runtime.providers import CPU, CUDA, CudaInstallation, ProviderChoice, choose_provider, without_cuda
from tests.fixtures.fake_driver import fake_cuda

WITHOUT_CUDA = CUDA not in ort.get_available_providers()


@pytest.mark.skipif(not WITHOUT_CUDA, reason="this ONNX Runtime has CUDA")
def test_without_cuda_the_cpu_is_chosen_and_the_reason_given() -> None:
    choice = choose_provider()
    assert choice.provider == CPU
    assert "extra gpu" in choice.reason


@pytest.mark.skipif(not WITHOUT_CUDA, reason="this ONNX Runtime has CUDA")
def test_cuda_on_request_fails_where_there_is_none() -> None:
    with pytest.raises(ProviderError, match="CUDA was requested, but"):
        choose_provider("cuda")


def test_a_gpu_that_can_run_is_chosen() -> None:
    assert choose_provider("auto", fake_cuda()) == ProviderChoice(CUDA, "a GPU was found")
    assert choose_provider("cuda", fake_cuda()) == ProviderChoice(CUDA, "as requested", required=True)
    assert choose_provider("cpu", fake_cuda()) == ProviderChoice(CPU, "as requested")


OBSTACLES = {
    "the package without CUDA": (fake_cuda(None), r"both packages write the same folder, so swap them: pip uninstall"),
    "no driver": (CudaInstallation(driver=None, version=(13, 0)), r"there is no NVIDIA driver \(libcuda.so.1\)"),
    "no GPU": (fake_cuda(name=""), "the NVIDIA driver finds no GPU"),
    "an old driver": (
        fake_cuda(version=12040),
        r"too old: it supports CUDA 12.4, and .* built for CUDA 13.0: install a driver of branch 580 or newer, or "
        r"onnxruntime-gpu<1.27, the last for CUDA 12",
    ),
    "a very old driver": (
        fake_cuda((12, 8), version=11080),
        r"it supports CUDA 11.8, and .* CUDA 12.8: install a driver of branch 525 or newer$",
    ),
}


@pytest.mark.parametrize(("cuda", "message"), OBSTACLES.values(), ids=OBSTACLES)
def test_an_obstacle_is_an_error_on_request_and_a_reason_otherwise(cuda: CudaInstallation, message: str) -> None:
    with pytest.raises(ProviderError, match=f"CUDA was requested, but .*{message}"):
        choose_provider("cuda", cuda)
    choice = choose_provider("auto", cuda)
    assert choice.provider == CPU
    assert choice.is_fallback == cuda.has_gpu, "a GPU that lies idle is a warning"


def test_a_newer_minor_version_of_cuda_runs_on_a_driver_of_its_major_version() -> None:
    assert choose_provider("cuda", fake_cuda((13, 2), version=13000)).provider == CUDA


def test_a_machine_without_a_gpu_is_not_told_to_swap_packages() -> None:
    assert choose_provider("auto", CudaInstallation(driver=None, version=None)) == ProviderChoice(
        CPU, "the installed ONNX Runtime has no CUDA (the extra gpu brings it)"
    )


def test_a_required_provider_has_no_substitute() -> None:
    with pytest.raises(ProviderError, match="CUDA was requested, but it rains"):
        without_cuda(ProviderChoice(CUDA, "as requested", required=True), "it rains")

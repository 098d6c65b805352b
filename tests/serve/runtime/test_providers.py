import onnxruntime as ort
import pytest

from serve.errors import ProviderError
from serve.runtime.providers import CPU, CUDA, choose_provider

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

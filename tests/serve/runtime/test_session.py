import logging
from pathlib import Path

import onnxruntime as ort
import pytest

from serve.errors import BundleError, ProviderError
from serve.runtime.providers import CPU, CUDA, Choice, choose_provider
from serve.runtime.session import open_session

WITHOUT_CUDA = CUDA not in ort.get_available_providers()


@pytest.mark.skipif(not WITHOUT_CUDA, reason="this ONNX Runtime has CUDA")
def test_without_cuda_the_cpu_is_chosen_and_the_reason_given() -> None:
    choice = choose_provider()
    assert choice.provider == CPU
    assert "extra gpu" in choice.reason


@pytest.mark.skipif(not WITHOUT_CUDA, reason="this ONNX Runtime has CUDA")
def test_cuda_on_request_fails_where_there_is_none() -> None:
    with pytest.raises(ProviderError, match="CUDA was asked for, but"):
        choose_provider("cuda")


def test_one_line_says_which_provider_and_why(bundle_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_session(bundle_folder / "model.onnx", choose_provider("cpu"))
    assert [record.message for record in caplog.records] == ["running on CPUExecutionProvider: as asked"]


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    with pytest.raises(BundleError, match="ONNX Runtime does not take"):
        open_session(tmp_path / "model.onnx", Choice(CPU, ""))


@pytest.mark.gpu
def test_cuda_is_chosen_where_there_is_a_gpu(bundle_folder: Path) -> None:
    choice = choose_provider()
    assert choice == Choice(CUDA, "a GPU was found")
    assert open_session(bundle_folder / "model.onnx", choice).get_providers()[0] == CUDA

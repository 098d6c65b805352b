import logging
from pathlib import Path

import pytest

from serve.errors import BundleError
from serve.runtime.providers import CPU, CUDA, ProviderChoice, choose_provider
from serve.runtime.session import open_session


def test_one_line_says_which_provider_and_why(bundle_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_session(bundle_folder / "model.onnx", choose_provider("cpu"))
    assert [record.message for record in caplog.records] == ["running on CPUExecutionProvider: as requested"]


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    with pytest.raises(BundleError, match="ONNX Runtime does not take"):
        open_session(tmp_path / "model.onnx", ProviderChoice(CPU, ""))


@pytest.mark.gpu
def test_cuda_is_chosen_where_there_is_a_gpu(bundle_folder: Path) -> None:
    choice = choose_provider()
    assert choice == ProviderChoice(CUDA, "a GPU was found")
    assert open_session(bundle_folder / "model.onnx", choice).get_providers()[0] == CUDA

import logging
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from serve.errors import BundleError, ProviderError
from serve.runtime import session as sessions
from serve.runtime.providers import CPU, CUDA, ProviderChoice, choose_provider
from serve.runtime.session import obstacle_of, open_session


def test_one_line_says_which_provider_and_why(bundle_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_session(bundle_folder / "model.onnx", choose_provider("cpu"))
    assert [record.message for record in caplog.records] == ["running on CPUExecutionProvider: as requested"]


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    with pytest.raises(BundleError, match="ONNX Runtime does not take"):
        open_session(tmp_path / "model.onnx", ProviderChoice(CPU, ""))


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_cuda_that_does_not_start_is_a_warning_with_the_reason(
    bundle_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session = open_session(bundle_folder / "model.onnx", ProviderChoice(CUDA, "a GPU was found"))
    assert session.get_providers() == [CPU]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("running on CPUExecutionProvider: CUDA did not start: ")
    assert "libonnxruntime_providers_cuda.so" in record.message


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_cuda_that_is_required_and_does_not_start_is_an_error(bundle_folder: Path) -> None:
    choice = ProviderChoice(CUDA, "as requested", required=True)
    with (
        pytest.raises(ProviderError, match="CUDA was requested, but CUDA did not start: "),
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
    ):
        open_session(bundle_folder / "model.onnx", choice)


NO_MEMORY = RuntimeError("[ONNXRuntimeError] : 6 : bfc_arena.cc:376 Failed to allocate memory for requested buffer")


def test_a_gpu_that_runs_out_of_memory_is_an_obstacle_and_a_broken_model_is_none() -> None:
    required, found = (ProviderChoice(CUDA, "", required=required) for required in (True, False))
    broken = RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF")
    for choice in (required, found):
        obstacle = obstacle_of(choice, NO_MEMORY)
        assert obstacle is not None and obstacle.startswith("the GPU has too little memory: [ONNXRuntimeError] : 6")
    assert obstacle_of(required, broken) is None
    old = RuntimeError("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0")
    for choice in (required, found):
        assert obstacle_of(choice, old) == f"the GPU does not open the model: {old}"
    assert obstacle_of(found, broken) == "the GPU does not open the model: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF"
    assert obstacle_of(ProviderChoice(CPU, ""), NO_MEMORY) is None


@pytest.mark.gpu
def test_cuda_is_chosen_where_there_is_a_gpu(bundle_folder: Path) -> None:
    choice = choose_provider()
    assert choice == ProviderChoice(CUDA, "a GPU was found")
    assert open_session(bundle_folder / "model.onnx", choice).get_providers()[0] == CUDA


@pytest.mark.parametrize(("exact", "tf32"), [(True, "0"), (False, None)])
def test_products_of_fp32_stay_exact_on_cuda(
    exact: bool, tf32: str | None, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    opened = ort.InferenceSession

    def noted(*args: object, providers: list[Any], **others: object) -> ort.InferenceSession:
        seen.append(providers[0])
        return opened(*args, providers=[CPU])

    monkeypatch.setattr(sessions, "preload", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", noted)
    open_session(bundle_folder / "model.onnx", ProviderChoice(CUDA, "a GPU was found"), exact=exact)
    provider, options = seen[0]
    assert provider == CUDA
    assert options.get("use_tf32") == tf32


@pytest.mark.gpu
def test_cuda_takes_the_options_of_exact_products(bundle_folder: Path) -> None:
    found = open_session(bundle_folder / "model.onnx", choose_provider(), exact=True)
    assert found.get_provider_options()[CUDA]["use_tf32"] == "0"

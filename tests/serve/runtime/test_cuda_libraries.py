import sys
from collections.abc import Callable

import onnxruntime as ort
import pytest

from serve.runtime import cuda_libraries
from serve.runtime.cuda_libraries import (
    LIBRARIES,
    PROVIDER_LIBRARY,
    built_for,
    missing_cuda_package,
    missing_libraries,
    preload,
    start_failure,
)


def loader(*missing: str) -> Callable[[str], object]:
    """Loads every library but those that are missing."""

    def load(name: str) -> object:
        if name in missing:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return object()

    return load


@pytest.mark.parametrize("cuda", LIBRARIES)
def test_a_missing_library_is_named_with_its_wheel(cuda: int) -> None:
    for name, wheel in LIBRARIES[cuda].items():
        assert missing_libraries(cuda, loader(name)) == {name: wheel}
        reason = start_failure((cuda, 0), loader(name))
        assert reason == f"CUDA did not start: {name} not found: pip install {wheel}, or the extra gpu"


def test_two_libraries_of_one_wheel_name_it_once() -> None:
    reason = start_failure((13, 0), loader("libcublas.so.13", "libcublasLt.so.13", "libcudnn.so.9"))
    assert reason.endswith("not found: pip install nvidia-cublas nvidia-cudnn-cu13, or the extra gpu")


def test_a_library_that_no_table_lists_is_named_by_the_loader() -> None:
    reason = start_failure((13, 0), loader(str(PROVIDER_LIBRARY)))
    assert reason.startswith(f"CUDA did not start: {PROVIDER_LIBRARY}: cannot open shared object file")


def test_a_failure_that_nothing_explains_points_to_the_log() -> None:
    assert start_failure((13, 0), loader()).startswith("CUDA 13.0 did not start, though its libraries are there")


@pytest.mark.parametrize(
    ("stated", "expected"), [("13.0", (13, 0)), ("12.8", (12, 8)), ("13", (13, 0)), ("", (0, 0)), ("dev", (0, 0))]
)
def test_the_version_of_cuda_is_that_of_the_build(
    stated: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "cuda_version", stated, raising=False)
    assert built_for() == expected


@pytest.mark.parametrize(
    ("installed", "found"),
    [({"onnxruntime"}, "has no CUDA"), ({"onnxruntime", "onnxruntime-gpu"}, "are both installed")],
)
def test_packages_that_share_a_folder_are_swapped(
    installed: set[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_libraries, "_is_installed", lambda package: package in installed)
    advice = missing_cuda_package()
    assert found in advice
    assert advice.endswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install '.[gpu]'")


def test_what_the_runtime_prints_is_not_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort, "preload_dlls", lambda: sys.stdout.write("Failed to load libcudnn.so.9"))
    preload()
    assert capsys.readouterr() == ("", "Failed to load libcudnn.so.9")

import subprocess
import sys

import pytest

import serve

PRINT_LOADED = "import serve, sys; print([name for name in sys.modules if name.partition('.')[0] in {modules}])"


@pytest.mark.parametrize("name", serve.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(serve, name).__name__ == name


def test_public_names_are_sorted_and_unknown_ones_are_an_error() -> None:
    assert serve.__all__ == sorted(serve.EXPORTS)
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        _ = serve.Trainer


def test_importing_the_package_loads_no_runtime() -> None:
    code = PRINT_LOADED.format(modules={"onnxruntime", "tokenizers", "fastapi", "numpy"})
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

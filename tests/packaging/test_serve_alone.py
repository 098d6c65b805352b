"""`serve` installs without torch and transformers, and its tests pass there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_TOOLS = ["httpx", "hypothesis", "onnx", "pytest", "pytest-timeout"]
"""What the tests of serve need besides serve itself; onnx builds their little models."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    result = subprocess.run([*pip, f"{ROOT}[cpu]", *TEST_TOOLS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return python


@pytest.mark.slow
def test_neither_torch_nor_transformers_is_installed(python: Path) -> None:
    for module in ("torch", "transformers", "peft"):
        assert subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 1


@pytest.mark.slow
def test_the_tests_of_serve_pass(python: Path) -> None:
    # Few examples show that nothing needs torch; all of them run where it is installed.
    command = [python, "-m", "pytest", "tests/serve", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "few"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["adamix-train", "adamix-export", "adamix-serve", "adamix-predict"])
def test_commands_explain_themselves_without_torch(python: Path, command: str) -> None:
    result = subprocess.run([python.with_name(command), "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["adamix-train", "--base", "base", "--train-file", "data.csv", "--out", "run"], "train"),
        (["adamix-export", "run", "bundle"], "export"),
        (["adamix-demo", "--help"], "demo"),
    ],
)
def test_the_other_commands_name_their_extra(python: Path, command: list[str], extra: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "data.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 20)
    name, *arguments = command
    run = subprocess.run([python.with_name(name), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert f"pip install '.[{extra}" in run.stderr
    assert "Traceback" not in run.stderr

import json
import subprocess
import sys
from pathlib import Path

TRAIN = [sys.executable, "-m", "adamix_train.cli"]


def test_json_on_stdout_and_the_bar_on_stderr(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    flags = ["--base", str(tiny_base), "--train-file", str(tiny_data), "--out", str(tmp_path / "run")]
    command = [*TRAIN, *flags, "--epochs", "1", "--max-length", "16", "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["checkpoint"] == str(tmp_path / "run")
    assert "training: 100%" in result.stderr


def test_an_error_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    command = [*TRAIN, "--base", "b", "--train-file", str(tmp_path / "none.csv"), "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == f"adamix-train: there is no data file {tmp_path / 'none.csv'}"


def test_help_teaches() -> None:
    text = subprocess.run([*TRAIN, "--help"], capture_output=True, text=True).stdout
    assert "adamix-train recipe.yaml" in text
    assert "--consistency-weight" in text

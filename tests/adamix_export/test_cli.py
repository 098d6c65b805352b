import json
import subprocess
import sys
from pathlib import Path

EXPORT = [sys.executable, "-m", "adamix_export.cli"]


def test_json_on_stdout_and_the_bar_on_stderr(houlsby: Path, lora: Path, tmp_path: Path) -> None:
    command = [*EXPORT, str(houlsby), str(lora), str(tmp_path / "bank"), "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["shape"], report["parity"].keys()) == ("bank", {"houlsby", "lora"})
    assert "tracing" in result.stderr


def test_a_failed_parity_check_exits_with_one_and_leaves_nothing(houlsby: Path, tmp_path: Path) -> None:
    command = [*EXPORT, str(houlsby), str(tmp_path / "out"), "--tolerance", "0"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "does not agree with PyTorch" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(houlsby: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = subprocess.run([*EXPORT, str(houlsby), str(tmp_path / "file" / "out")], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("adamix-export: [Errno")


def test_one_argument_is_not_enough(houlsby: Path) -> None:
    result = subprocess.run([*EXPORT, str(houlsby)], capture_output=True, text=True)
    assert result.returncode == 1
    assert "and then the folder to write" in result.stderr

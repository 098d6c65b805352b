import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SLOW_IMPORTS = ("torch", "transformers", "peft", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
IMPORTED = f"""\
import json, sys
from adamix_export.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
print(json.dumps([name for name in {SLOW_IMPORTS} if name in sys.modules]), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["verify"], ["convert"]], ids=" ".join)
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments, "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: adamix-export" in result.stdout
    assert json.loads(result.stderr) == []


def test_inspect_needs_no_torch(export: Callable[..., object], lora: Path, tmp_path: Path) -> None:
    export("merged", lora)
    command = [sys.executable, "-c", IMPORTED, "inspect", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "text-classification, merged, fp32" in result.stdout
    assert not {"torch", "transformers", "peft", "onnxscript"} & set(json.loads(result.stderr))


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(houlsby: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "adamix_export.cli", str(houlsby), str(tmp_path / "file" / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("adamix-export: [Errno")


def test_a_checkpoint_may_be_called_like_a_command(
    command: Callable[..., None],
    houlsby: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "inspect").symlink_to(houlsby)
    monkeypatch.chdir(tmp_path)
    command("./inspect", "out", "--parity-rows", "4")
    assert "wrote out (merged, fp32)" in capsys.readouterr().out

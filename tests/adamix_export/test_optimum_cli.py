"""The exporter as optimum's own command offers it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve.bundle.reader import open_bundle

PLUG_IN = Path("optimum/commands/register/register_adamix.py")
OPTIMUM_CLI = """\
import json, sys
from optimum.commands.optimum_cli import main
try:
    main()
except SystemExit as exit:
    code = exit.code
    if isinstance(code, str):
        print(code)
print(json.dumps([name for name in ("torch", "transformers", "peft", "onnx") if name in sys.modules]), file=sys.stderr)
"""


def optimum_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OPTIMUM_CLI, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_it_is_one_of_optimums_exporters() -> None:
    result = optimum_cli("export", "--help")
    assert "adamix" in result.stdout


def test_its_help_is_that_of_adamix_export_and_imports_nothing_slow() -> None:
    result = optimum_cli("export", "adamix", "--help")
    assert result.stdout.startswith("usage: optimum-cli export adamix [options] [NAME=]CHECKPOINT")
    assert "--shape {merged,adapter,bank}" in result.stdout and "--max-metric-drop" in result.stdout
    assert json.loads(result.stderr.splitlines()[-1]) == []


def test_an_error_is_one_line_in_its_name(tmp_path: Path) -> None:
    result = optimum_cli("export", "adamix", str(tmp_path / "none"), str(tmp_path / "out"))
    assert result.stdout == f"optimum-cli export adamix: there is no checkpoint folder {tmp_path / 'none'}\n"


def test_no_package_of_ours_hides_optimum() -> None:
    """optimum finds plug-ins in namespace packages, which have no __init__.py."""
    assert [file.relative_to("optimum") for file in Path("optimum").rglob("*.py")] == [PLUG_IN.relative_to("optimum")]


@pytest.mark.slow
def test_it_writes_a_checked_bundle(houlsby: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = optimum_cli("export", "adamix", str(houlsby), str(out), "--shape", "bank", "--slots", "1", "--json")
    report = json.loads(result.stdout)
    assert report["shape"] == "bank" and report["parity"]["houlsby"]["equal_labels"] == 1
    bundle = open_bundle(out)
    assert bundle.manifest.shape == "bank" and bundle.manifest.spare_slots == 1

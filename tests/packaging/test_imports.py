"""The directions in which the packages may import each other."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("contract", [0, 1])
def test_a_broken_contract_would_be_seen(contract: int, tmp_path: Path) -> None:
    """The same configuration over a copy of the packages in which serve imports what it must not."""
    for package in ("adamix_train", "adamix_export", "serve", "demos", "benchmarks"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "serve" / "wrong.py").write_text(["import adamix_train\n", "import torch\n"][contract])
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "1 broken" in result.stdout, result.stdout + result.stderr


def test_no_extra_brings_both_runtimes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def runtimes(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            if requirement.startswith("adamix["):
                for other in requirement.removeprefix("adamix[").removesuffix("]").split(","):
                    found |= runtimes(other)
            elif requirement.startswith("onnxruntime"):
                found.add(requirement.partition(">")[0].partition("[")[0])
        return found

    assert not any(requirement.startswith(("onnxruntime", "torch")) for requirement in project["dependencies"])
    assert {extra: runtimes(extra) for extra in ("cpu", "gpu", "train")} == {
        "cpu": {"onnxruntime"},
        "gpu": {"onnxruntime-gpu"},
        "train": set(),
    }
    assert all(len(runtimes(extra)) <= 1 for extra in extras)

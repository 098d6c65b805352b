"""Real input: SST-2 beside the repository, MiniLM from the package index, and the three commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demos.models import sample_model

SHARED = Path(os.environ.get("ADAMIX_DATA") or Path(__file__).parents[4] / "shared" / "data")


@pytest.fixture(scope="session")
def sst2() -> Path:
    folder = SHARED / "sst2"
    if not (folder / "dev.tsv").is_file():
        pytest.skip(
            f"SST-2 is not at {folder} (set ADAMIX_DATA to the folder that holds sst2/): no end-to-end test ran"
        )
    return folder


def run(command: str, *arguments: str | Path) -> str:
    """Run one of the project's commands as a user does, and return what it printed."""
    module = command.replace("-", "_") + ".cli"
    result = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="session")
def base() -> Path:
    return sample_model("minilm")


def trained(folder: Path, base: Path, sst2: Path, *flags: str) -> Path:
    files = ["--train-file", sst2 / "train.tsv", "--validation-file", sst2 / "dev.tsv"]
    budget = ["--train-limit", "1000", "--epochs", "4", "--learning-rate", "4e-3", "--max-length", "64"]
    budget += ["--report-to", "none"]
    run("adamix-train", "--task", "sst2", "--base", base, "--out", folder, *files, *budget, *flags)
    return folder


@pytest.fixture(scope="session")
def houlsby(base: Path, sst2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "houlsby", base, sst2, "--kind", "houlsby")


@pytest.fixture(scope="session")
def lora(base: Path, sst2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(
        tmp_path_factory.mktemp("runs") / "lora", base, sst2, "--kind", "lora", "--train-limit", "300", "--epochs", "1"
    )


@pytest.fixture(scope="session")
def bundles(houlsby: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    rows = ["--parity-rows", "1000"]
    run("adamix-export", houlsby, folder / "houlsby", *rows)
    run("adamix-export", lora, folder / "lora", *rows)
    run("adamix-export", houlsby, lora, folder / "bank", "--shape", "bank", *rows)
    return folder

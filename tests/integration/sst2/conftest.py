"""Real input: SST-2 beside the repository, MiniLM from the package index, and the three commands."""

import os
import signal
from importlib import import_module
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


def run(command: str, *arguments: str | Path) -> None:
    """Run one of the project's commands in this process, which has imported what it needs."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        import_module(command.replace("-", "_") + ".cli").main([*map(str, arguments)])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def base() -> Path:
    return sample_model("minilm")


@pytest.fixture(scope="session")
def few(sst2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of the dev file, for runs of which nobody asks how good they are."""
    file = tmp_path_factory.mktemp("data") / "few.tsv"
    file.write_text("".join((sst2 / "dev.tsv").read_text("utf-8").splitlines(keepends=True)[:65]), "utf-8")
    return file


def trained(folder: Path, base: Path, sst2: Path, validation_file: Path, *flags: str) -> Path:
    files = ["--train-file", sst2 / "train.tsv", "--validation-file", validation_file]
    budget = ["--learning-rate", "6e-3", "--batch-size", "32", "--max-length", "64", "--report-to", "none"]
    run("adamix-train", "--task", "sst2", "--base", base, "--out", folder, *files, *budget, *flags)
    return folder


@pytest.fixture(scope="session")
def houlsby(base: Path, sst2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    budget = ["--train-limit", "600", "--epochs", "3", "--eval-steps", "19"]
    return trained(tmp_path_factory.mktemp("runs") / "houlsby", base, sst2, sst2 / "dev.tsv", *budget)


@pytest.fixture(scope="session")
def lora(base: Path, sst2: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ["--kind", "lora", "--train-limit", "300", "--epochs", "1"]
    return trained(tmp_path_factory.mktemp("runs") / "lora", base, sst2, few, *flags)


@pytest.fixture(scope="session")
def bundles(houlsby: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    run("adamix-export", houlsby, folder / "houlsby", "--parity-rows", "1000")
    run("adamix-export", lora, folder / "lora")
    run("adamix-export", houlsby, lora, folder / "bank", "--shape", "bank", "--parity-rows", "100")
    return folder

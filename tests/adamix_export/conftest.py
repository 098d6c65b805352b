"""Checkpoints of tiny mixtures, trained for a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_source
from adamix_export.parity.comparison import Check, Parity
from adamix_export.parity.verification import verify
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.adamix_train.conftest import tiny_base, tiny_data

__all__ = ["tiny_base", "tiny_data"]


def trained(folder: Path, base: Path, data: Path, **fields: object) -> Path:
    common = {"r": 4, "epochs": 1, "batch_size": 8, "learning_rate": 3e-2, "max_length": 16, "validation_share": 0.25}
    recipe = {"base": str(base), "train_file": str(data), "test_file": str(data), "out": str(folder)}
    train(Recipe(**{**recipe, **common, **fields}))
    return folder


@pytest.fixture(scope="session")
def noun_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sentences again, with one of three labels: the word that they start with."""
    lines = tiny_data.read_text().splitlines()[1:]
    file = tmp_path_factory.mktemp("data") / "start.csv"
    file.write_text(
        "\n".join(["text,label", *(f"{line.partition(',')[0]},{line.split()[0]}" for line in lines)]) + "\n"
    )
    return file


@pytest.fixture(scope="session")
def houlsby(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "houlsby", tiny_base, tiny_data, kind="houlsby", num_modules=3)


@pytest.fixture(scope="session")
def lora(tiny_base: Path, noun_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "lora", tiny_base, noun_data, kind="lora", r=6, lora_alpha=12)


Export = Callable[..., dict[str, Parity]]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Export as the command does; every bundle that is made is verified."""

    def run(shape: str, *checkpoints: Path | str, out: str = "out", **options: object) -> dict[str, Parity]:
        sources = [open_source(str(checkpoint)) for checkpoint in checkpoints]
        check = Check(**{name: options.pop(name) for name in ("data", "limit") if name in options})
        settings = Options(check=check, **options)
        reports = EXPORTS[shape](sources, tmp_path / out, settings, lambda stage: None)
        if shape != "adapter":
            assert verify(tmp_path / out).adapters == list(reports)
        return reports

    return run

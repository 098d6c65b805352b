"""Bundles to convert, one of each sort; a test that changes one works on a copy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_source
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from tests.adamix_export.conftest import trained
from tests.adamix_train.conftest import make_writer, writing_data

__all__ = ["writing_data"]

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def run(shape: str, *checkpoints: str) -> Path:
        out = tmp_path_factory.mktemp("bundles") / "out"
        EXPORTS[shape]([open_source(checkpoint) for checkpoint in checkpoints], out, Options(), lambda stage: None)
        return out

    return run


@pytest.fixture(scope="session")
def merged(make: Make, lora: Path) -> Path:
    return make("merged", f"start={lora}")


@pytest.fixture(scope="session")
def bank(make: Make, houlsby: Path, lora: Path) -> Path:
    return make("bank", f"tone={houlsby}", f"start={lora}")


@pytest.fixture(scope="session")
def writers(writing_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of a LoRA mixture on decoders, by family."""
    folder = tmp_path_factory.mktemp("writers")
    return {
        family: trained(
            folder / family,
            make_writer(folder / f"base-{family}", family),
            writing_data,
            task="generation",
            kind="lora",
            max_length=24,
            max_new_tokens=8,
            consistency_weight=0.0,
            eval_steps=1000,
            learning_rate=0.3,
            report_to="none",
        )
        for family in ("gpt2", "llama")
    }


@pytest.fixture(scope="session")
def decoders(make: Make, writers: dict[str, Path]) -> dict[str, Path]:
    """Merged bundles by family."""
    return {family: make("merged", f"task={checkpoint}") for family, checkpoint in writers.items()}

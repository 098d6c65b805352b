"""Bundles to convert, one of each sort; a test that changes one works on a copy."""

from pathlib import Path

import pytest

from tests.adamix_export.conftest import Exports, MakeGenerative


@pytest.fixture(scope="session")
def merged(exported: Exports, lora: Path) -> Path:
    return exported("merged", f"start={lora}")


@pytest.fixture(scope="session")
def bank(exported: Exports, houlsby: Path, lora: Path) -> Path:
    return exported("bank", f"tone={houlsby}", f"start={lora}")


@pytest.fixture(scope="session")
def writers(generative: MakeGenerative) -> dict[str, Path]:
    """Checkpoints of a LoRA mixture on decoders, by family."""
    return {family: generative(family, "lora") for family in ("gpt2", "llama")}


@pytest.fixture(scope="session")
def decoders(exported: Exports, writers: dict[str, Path]) -> dict[str, Path]:
    """Merged bundles by family."""
    return {family: exported("merged", f"task={checkpoint}") for family, checkpoint in writers.items()}

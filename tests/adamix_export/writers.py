"""Banks of tiny adapters that write, for tests of the generation engine."""

from pathlib import Path

from adamix_export.export import EXPORTS, Options
from adamix_export.parity import Check
from adamix_export.source import open_source
from tests.adamix_export.conftest import trained
from tests.adamix_train.conftest import make_writer

NAMES = ["one", "other", "third"]


def bank_of_writers(family: str, folder: Path, data: Path) -> Path:
    """Return the bundle of three adapters of two kinds on a tiny model; their checkpoints lie in `folder` / NAME."""
    base = make_writer(folder / "base", family)
    for seed, (name, kind) in enumerate(zip(NAMES, ["lora", "houlsby", "lora"], strict=True)):
        trained(
            folder / name,
            base,
            data,
            task="generation",
            kind=kind,
            max_length=24,
            max_new_tokens=8,
            consistency_weight=0.0,
            eval_steps=1000,
            learning_rate=0.3,
            seed=seed,
            report_to="none",
        )
    sources = [open_source(f"{name}={folder / name}") for name in NAMES]
    EXPORTS["bank"](sources, folder / "bank", Options(check=Check()), lambda stage: None)
    return folder / "bank"

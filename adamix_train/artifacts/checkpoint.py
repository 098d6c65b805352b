"""The checkpoint: a PEFT folder with a card that says what it was trained from, for and with.

A folder holds `adapter_model.safetensors` (mixtures and head), `adapter_config.json`, the tokenizer's files, and
`adamix.json`, the card, which is written last: a folder without it is not a checkpoint. The checkpoints of a run's
steps hold the training state as well (`optimizer.safetensors`, `rng_state_0.safetensors`, `trainer_state.json`).
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adamix_train.artifacts.hashing import file_sha256
from adamix_train.errors import CheckpointError

CARD = "adamix.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
STEP_FILES = (CARD, OPTIMIZER, "trainer_state.json")
MODEL_FILES = (WEIGHTS, CONFIG, "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
FORMAT_VERSION = 2
PACKAGES = ("adamix", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint says of itself."""

    base: str
    """The base model's folder or hub id, as the recipe names it."""
    base_sha256: str
    config_sha256: str
    """Of the base's configuration: equal weights under another number of heads are another model."""
    data: dict[str, str]
    """sha256 of the data files, or the fingerprints of the hub's sets."""
    task: str
    labels: list[str]
    """Of a classification; empty otherwise."""
    metric: str
    max_length: int
    """Longer inputs are truncated to this many tokens, special ones included."""
    recipe: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {package: version(package) for package in PACKAGES})
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of the files that make the model."""
    format_version: int = FORMAT_VERSION


def write_card(folder: Path, card: Card) -> None:
    """Complete a checkpoint: hash its model files and write the card under its name at once."""
    hashes = {name: file_sha256(folder / name) for name in MODEL_FILES if (folder / name).is_file()}
    content = {**asdict(card), "files": hashes}
    partial = folder / (CARD + ".partial")
    partial.write_text(json.dumps({**content, "seal": _seal(content)}, indent=2, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(folder / CARD)


def read_card(folder: Path) -> Card:
    """Return the card of a checkpoint after checking that its files are whole and unchanged."""
    file = folder / CARD
    if not file.is_file():
        raise CheckpointError(
            f"{folder} is not a checkpoint of adamix-train: it has no {CARD} (a run that was cut short leaves "
            "checkpoint-N folders: resume it with --resume)"
        )
    try:
        content = json.loads(file.read_text("utf-8"))
        seal = content.pop("seal")
        card = Card(**content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{file} is damaged or of another version: {error}") from error
    if seal != _seal(content):
        raise CheckpointError(f"{file} was changed since training: its seal, the sha256 of the rest, does not match")
    if card.format_version != FORMAT_VERSION:
        raise CheckpointError(f"{file} has format {card.format_version}; this version reads {FORMAT_VERSION}")
    for name, expected in card.files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is incomplete: {name} is missing; train or copy it again")
        if file_sha256(folder / name) != expected:
            raise CheckpointError(f"{folder / name} is cut short or changed since training: its sha256 does not match")
    return card


def whole_checkpoints(out: Path) -> list[Path]:
    """Return the step checkpoints of a run that were written to their end, oldest first."""
    steps = [path for path in out.glob("checkpoint-*") if all((path / name).is_file() for name in STEP_FILES)]
    return sorted(steps, key=lambda path: int(path.name.rpartition("-")[2]))


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

"""Checkpoint folders: what PEFT saves, plus a card that describes the run.

A checkpoint holds `adapter_model.safetensors` (mixtures and head), `adapter_config.json`, the tokenizer's files, and
`adamix.json`, the card, which is written last: a folder without it is not a checkpoint. Step checkpoints
(`checkpoint-N`) hold the training state as well: `optimizer.safetensors`, `rng_state_0.safetensors`,
`trainer_state.json`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adamix_train.artifacts.atomic_write import write_json
from adamix_train.artifacts.hashing import file_sha256
from adamix_train.errors import CheckpointError
from adamix_train.recipe.stored import fields_of_run

CARD = "adamix.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
STEP_AVERAGE = "step_average.safetensors"
"""Mean of the weights over steps, in step checkpoints of a run that averages them."""
STEP_FILES = (CARD, OPTIMIZER, "trainer_state.json")
"""Files without which a step checkpoint cannot be resumed."""
MODEL_FILES = (WEIGHTS, CONFIG, "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
"""Files whose hashes the card holds, where a method writes them."""
FORMAT_VERSION = 2
PACKAGES = ("adamix", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Content of `adamix.json`: origin, task and results of a checkpoint."""

    base: str
    """Base model as the recipe names it: a folder or a Hub id."""
    base_sha256: str
    """Hash of the base's weights (`base_model.fingerprint`)."""
    config_sha256: str
    """Hash of the base's configuration: the same weights with another number of heads are another model."""
    data: dict[str, str]
    """Data file → SHA-256, or split of a Hub set → fingerprint."""
    task: str
    """Key of `tasks.table.TASKS`."""
    labels: list[str]
    """Class names in the order of the logits; empty unless the task is a classification."""
    metric: str
    """Name of the task's first metric."""
    max_length: int
    """Tokens to which longer inputs are truncated, special tokens included."""
    recipe: dict[str, Any]
    """Fields of the `Recipe`, under their current names."""
    device: str = ""
    """Kind of device that trained it, such as cpu or cuda; empty in checkpoints of earlier versions."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Newest metrics: validation data by plain name, test data as `test_…`."""
    versions: dict[str, str] = field(default_factory=lambda: {package: version(package) for package in PACKAGES})
    """Package → version, at the time of training."""
    files: dict[str, str] = field(default_factory=dict)
    """Model file → SHA-256; `write_card` fills it in."""
    format_version: int = FORMAT_VERSION


def write_card(folder: Path, card: Card) -> None:
    """Complete a checkpoint: hash its model files and write `adamix.json` atomically."""
    hashes = {name: file_sha256(folder / name) for name in MODEL_FILES if (folder / name).is_file()}
    content = {**asdict(card), "files": hashes}
    write_json(folder / CARD, {**content, "seal": _seal(content)})


def read_card(folder: Path) -> Card:
    """Return the card of a checkpoint whose files are complete and unchanged.

    Raises:
        CheckpointError: the folder is no checkpoint, or a file is missing, cut short or changed.
    """
    file = folder / CARD
    if not file.is_file():
        raise CheckpointError(
            f"{folder} is not a checkpoint of adamix-train: it has no {CARD} (a run that was cut short leaves "
            "checkpoint-N folders: resume it with --resume)"
        )
    try:
        content = json.loads(file.read_text("utf-8"))
        seal = content.pop("seal")
        card = Card(**{**content, "recipe": fields_of_run(content["recipe"])})
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{file} is damaged or of another version: {error}") from error
    if seal != _seal(content):
        raise CheckpointError(f"{file} was changed since training: its seal, the SHA-256 of the rest, does not match")
    if card.format_version != FORMAT_VERSION:
        raise CheckpointError(f"{file} has format {card.format_version}; this version reads {FORMAT_VERSION}")
    for name, expected in card.files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is incomplete: {name} is missing; train or copy it again")
        if file_sha256(folder / name) != expected:
            raise CheckpointError(f"{folder / name} is cut short or changed since training: its SHA-256 does not match")
    return card


def whole_checkpoints(out: Path) -> list[Path]:
    """Return the complete step checkpoints of a run, oldest first."""
    steps = [path for path in out.glob("checkpoint-*") if all((path / name).is_file() for name in STEP_FILES)]
    return sorted(steps, key=lambda path: int(path.name.rpartition("-")[2]))


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

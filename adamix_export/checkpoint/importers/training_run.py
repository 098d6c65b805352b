"""Runs of adamix-train, whose card states everything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peft

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint, Importer, objective_name
from adamix_export.checkpoint.importers.head import HeadImporter
from adamix_export.checkpoint.importers.mixture import MixtureImporter
from adamix_export.checkpoint.importers.peft_adapter import PeftImporter, read_config
from adamix_export.checkpoint.importers.whole_model import WholeModelImporter, refuse_base
from adamix_train.artifacts.checkpoint import Card, read_card
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.locate import base_folder
from adamix_train.errors import BaseError, CheckpointError
from adamix_train.peft_method import AdaMixConfig


def open_run(argument: Argument) -> Checkpoint:
    """Open a run, whose base has the hashes that its card names."""
    folder, card = argument.folder, read_card(argument.folder)
    method = card.recipe["method"]
    importer = METHODS[method](folder)
    if type(importer) is WholeModelImporter:
        refuse_base(argument)
        card, where = _own_base(card, folder), folder
    else:
        where = base_folder(argument.base or card.base)
        _check_base(folder, card, where)
    return Checkpoint(argument.name, folder, card, importer, where, objective_name(card.task, where))


def _mixture(folder: Path) -> MixtureImporter:
    try:
        config = peft.PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder} holds no AdaMix configuration: {error}") from error
    if not isinstance(config, AdaMixConfig):
        raise CheckpointError(f"{folder} holds a {type(config).__name__}, not an AdaMix mixture")
    return MixtureImporter(config)


def _lora(folder: Path) -> PeftImporter:
    return PeftImporter(read_config(folder))


METHODS: dict[str, Callable[[Path], Importer]] = {
    "adamix": _mixture,
    "peft-lora": _lora,
    "head": lambda folder: HeadImporter(),
    "full": lambda folder: WholeModelImporter(),
}
"""Method of a recipe → function that returns the importer of a folder."""


def _own_base(card: Card, folder: Path) -> Card:
    """Return the card of a run that trained all weights, as that of a model which is its own base."""
    return replace(card, base=str(folder), base_sha256=base_sha256(folder), config_sha256=config_sha256(folder))


def _check_base(folder: Path, card: Card, base: Path) -> None:
    """Raise an error if the base's weights or configuration are not those of training."""
    if (sha256 := base_sha256(base)) != card.base_sha256:
        raise BaseError(
            f"{folder} was trained on a base with sha256 {card.base_sha256[:12]}…, {base} has {sha256[:12]}…: "
            "give the base it was trained on with --base"
        )
    if config_sha256(base) != card.config_sha256:
        raise BaseError(f"{base} has the weights that {folder} was trained on, but another config.json: put it back")

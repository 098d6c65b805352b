"""A training checkpoint opened for export: its card, its collapsed adapter and its reference model in PyTorch."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import peft
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.collapse import AdapterTensors, collapse_checkpoint, with_module_weights
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import WEIGHTS, Card, read_card
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.load import load_base, load_config
from adamix_train.base_model.locate import base_folder
from adamix_train.data.examples import Example
from adamix_train.errors import BaseError, CheckpointError, DataError
from adamix_train.mixture.projection import mixtures
from adamix_train.peft_method import AdaMixConfig
from adamix_train.tasks.table import TASKS
from adamix_train.training.module_weights import set_weights
from adamix_train.training.objectives import OBJECTIVES, Objective
from serve.bundle.adapter import check_adapter_name

SCORE = "score"
"""The label of a regression's only output."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint together with the base model it was trained on; the base's hashes have been verified."""

    name: str
    folder: Path
    card: Card
    config: AdaMixConfig
    base: Path
    objective_name: str
    """The training objective, a key of `adamix_train.training.objectives.OBJECTIVES`."""
    weights: tuple[float, ...] = ()
    """The weight of each module in every mean; empty keeps the weights stored in the checkpoint."""
    member_of: str = ""
    """Name of the checkpoint of whose mixture this is one module; empty for a mean."""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics measured in training; empty when `weights` replace those that were measured."""
        return {} if self.weights else self.card.metrics

    @property
    def objective(self) -> Objective:
        """The training objective."""
        return OBJECTIVES[self.objective_name]

    @property
    def labels(self) -> list[str]:
        """Names of the outputs; empty for a generative model."""
        return [SCORE] if self.regression else self.card.labels

    @property
    def regression(self) -> bool:
        """True if the only output is a score."""
        return self.objective_name == "regression"

    @property
    def pairs(self) -> bool:
        """True if an input is a pair of texts."""
        return len(TASKS[self.card.task].inputs) > 1

    @cached_property
    def adapter(self) -> AdapterTensors:
        """The collapsed adapter."""
        return collapse_checkpoint(self.tensors, self.config)

    @property
    def tensors(self) -> AdapterTensors:
        """The checkpoint's tensors, with `weights` as the module weights if there are any."""
        return with_module_weights(load_file(self.folder / WEIGHTS), self.weights)

    @cached_property
    def reference(self) -> peft.PeftModel:
        """The model that an export must agree with: the checkpoint as PEFT loads it, in evaluation mode."""
        model = peft.PeftModel.from_pretrained(self.base_model(), self.folder).eval()
        if self.weights:
            set_weights(mixtures(model), self.weights)
        return model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer stored in the checkpoint, padding on the right as the server does."""
        return AutoTokenizer.from_pretrained(self.folder, padding_side="right")

    def check_labels(self, examples: Iterable[Example], origin: str) -> None:
        """Raise a `DataError` if an example, read from `origin`, has a label that is not one of the checkpoint's."""
        unknown = {example.target for example in examples} - set(self.card.labels) if self.card.labels else ()
        if unknown:
            raise DataError(f"{origin} has labels that {self.name} does not know: {', '.join(sorted(unknown)[:5])}")

    def forget_reference(self) -> None:
        """Free the memory of `reference`; the next access loads it again."""
        self.__dict__.pop("reference", None)

    def base_model(self) -> PreTrainedModel:
        """Return the base with a new head, in evaluation mode, without gradients."""
        model = load_base(self.base, self.objective.model, **self.objective.settings(self.card.labels)).model
        return model.requires_grad_(False).eval()


def open_checkpoint(argument: str, *, base: str | None = None) -> Checkpoint:
    """Open `[NAME=]FOLDER` with the base model at `base`, or with the one that the checkpoint names.

    Raises:
        CheckpointError: the folder is missing, incomplete or holds no AdaMix mixture.
        BaseError: the base is missing, or its weights or configuration are not those of training.
        ExportError: the checkpoint was trained with another method than AdaMix.

    """
    name, found, path = argument.partition("=")
    folder = Path(path if found else argument)
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}")
    card = read_card(folder)
    if card.recipe["method"] != "adamix":
        raise ExportError(f"{folder} was trained with method {card.recipe['method']}; export takes AdaMix adapters")
    config = _adamix_config(folder)
    where = base_folder(base or card.base)
    _check_base(folder, card, where)
    adapter_name = check_adapter_name(name if found else folder.resolve().name)
    return Checkpoint(adapter_name, folder, card, config, where, _objective_name(card, where))


def _adamix_config(folder: Path) -> AdaMixConfig:
    try:
        config = peft.PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder} holds no AdaMix configuration: {error}") from error
    if not isinstance(config, AdaMixConfig):
        raise CheckpointError(f"{folder} holds a {type(config).__name__}, not an AdaMix mixture")
    return config


def _check_base(folder: Path, card: Card, base: Path) -> None:
    """Raise an error if the base's weights or configuration are not those of training."""
    if (sha256 := base_sha256(base)) != card.base_sha256:
        raise BaseError(
            f"{folder} was trained on a base with sha256 {card.base_sha256[:12]}…, {base} has {sha256[:12]}…: "
            "give the base it was trained on with --base"
        )
    if config_sha256(base) != card.config_sha256:
        raise BaseError(f"{base} has the weights that {folder} was trained on, but another config.json: put it back")


def _objective_name(card: Card, base: Path) -> str:
    kind = TASKS[card.task].kind
    return "sequence-to-sequence" if kind == "generation" and load_config(base).is_encoder_decoder else kind

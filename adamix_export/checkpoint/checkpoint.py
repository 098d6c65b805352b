"""A checkpoint opened for export: its card, its collapsed adapter, and the model that PyTorch runs for comparison."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import peft
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.collapse import Weights, collapse_checkpoint, with_shares
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import WEIGHTS, Card, read_card
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.load import load_base, load_config
from adamix_train.base_model.locate import base_folder
from adamix_train.errors import BaseError, CheckpointError
from adamix_train.peft_method import AdaMixConfig
from adamix_train.tasks.table import TASKS
from adamix_train.training.module_weights import mixtures, set_weights
from adamix_train.training.objectives import OBJECTIVES, Objective
from serve.bundle.adapter import check_adapter_name

SCORE = "score"
"""The name of a regression's output."""


@dataclass(frozen=True)
class Source:
    """A checkpoint and the base it was trained on, checked against each other."""

    name: str
    folder: Path
    card: Card
    config: AdaMixConfig
    base: Path
    learned: str
    """The key of `adamix_train.objectives.OBJECTIVES` that it was trained for."""
    shares: tuple[float, ...] = ()
    """The weight of each module in every mean; () takes those of the checkpoint."""

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured in training, where that is still what it was measured on."""
        return {} if self.shares else self.card.metrics

    @property
    def objective(self) -> Objective:
        """What it was trained for."""
        return OBJECTIVES[self.learned]

    @property
    def labels(self) -> list[str]:
        """The names of its outputs; none of a model that writes."""
        return [SCORE] if self.regression else self.card.labels

    @property
    def regression(self) -> bool:
        """Whether its one output is a value."""
        return self.learned == "regression"

    @property
    def pairs(self) -> bool:
        """Whether its rows are pairs of texts."""
        return len(TASKS[self.card.task].inputs) > 1

    @cached_property
    def adapter(self) -> Weights:
        """The collapsed adapter."""
        return collapse_checkpoint(self.tensors, self.config)

    @property
    def tensors(self) -> Weights:
        """The checkpoint's tensors, weighed by `shares`."""
        return with_shares(load_file(self.folder / WEIGHTS), self.shares)

    @cached_property
    def reference(self) -> peft.PeftModel:
        """The checkpoint as PEFT loads it, in evaluation mode: what an export must agree with."""
        model = peft.PeftModel.from_pretrained(self.base_model(), self.folder).eval()
        if self.shares:
            set_weights(mixtures(model), self.shares)
        return model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's own tokenizer; it pads on the right, as serving does."""
        return AutoTokenizer.from_pretrained(self.folder, padding_side="right")

    def forget_reference(self) -> None:
        """Give back the memory of `reference`, which is loaded again when it is asked for."""
        self.__dict__.pop("reference", None)

    def base_model(self) -> PreTrainedModel:
        """Return the base with a new head, in evaluation mode, without gradients."""
        model = load_base(self.base, self.objective.model, **self.objective.settings(self.card.labels)).model
        return model.requires_grad_(False).eval()


def open_source(argument: str, *, base: str | None = None) -> Source:
    """Open `[NAME=]FOLDER`; the base is `base`, or the one that the checkpoint names, and must have its hash."""
    name, found, path = argument.partition("=")
    folder = Path(path if found else argument)
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}")
    card = read_card(folder)
    task = TASKS[card.task]
    if card.recipe["method"] != "adamix":
        raise ExportError(f"{folder} was trained with method {card.recipe['method']}; export takes AdaMix adapters")
    try:
        config = peft.PeftConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder} holds no AdaMix configuration: {error}") from error
    if not isinstance(config, AdaMixConfig):
        raise CheckpointError(f"{folder} holds a {type(config).__name__}, not an AdaMix mixture")
    where = base_folder(base or card.base)
    if (sha256 := base_sha256(where)) != card.base_sha256:
        raise BaseError(
            f"{folder} was trained on a base with sha256 {card.base_sha256[:12]}…, {where} has {sha256[:12]}…: "
            "give the base it was trained on with --base"
        )
    if config_sha256(where) != card.config_sha256:
        raise BaseError(f"{where} has the weights that {folder} was trained on, but another config.json: put it back")
    learned = (
        "sequence-to-sequence" if task.kind == "generation" and load_config(where).is_encoder_decoder else task.kind
    )
    return Source(check_adapter_name(name if found else folder.resolve().name), folder, card, config, where, learned)

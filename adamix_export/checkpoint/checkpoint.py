"""A checkpoint opened for export: its card, its adapter and its models in PyTorch."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.facts import NONE, Facts
from adamix_export.checkpoint.locate import checkpoint_folder, split_argument
from adamix_train.artifacts.checkpoint import CARD, CONFIG, Card
from adamix_train.base_model.load import Base, load_base, load_config
from adamix_train.base_model.padding import pad_as, padding_token
from adamix_train.data.examples import Example
from adamix_train.errors import CheckpointError, DataError
from adamix_train.tasks.table import TASKS
from adamix_train.training.objectives import OBJECTIVES, Objective
from serve.bundle.adapter import check_adapter_name
from serve.bundle.manifest import TOKENIZER

SCORE = "score"
"""The label of a regression's only output."""


class Importer(Protocol):
    """Reader of the weights of one kind of checkpoint."""

    @property
    def kind(self) -> str:
        """Kind of adapter."""

    @property
    def r(self) -> int:
        """Rank or bottleneck width; 0 if the kind has none."""

    @property
    def num_modules(self) -> int:
        """Modules of the mixture; 1 for anything that is no mixture."""

    def adapter(self, checkpoint: "Checkpoint") -> AdapterTensors:
        """Return the adapter's tensors as a bank takes them.

        Raises:
            BankError: a bank cannot hold the adapter exactly.
        """

    def reference(self, checkpoint: "Checkpoint") -> Any:
        """Return the model that an export must agree with, as its own library loads it."""

    def merged(self, checkpoint: "Checkpoint") -> PreTrainedModel:
        """Return the base with the adapter merged into it."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint together with the base model it was trained on."""

    name: str
    folder: Path
    card: Card
    importer: Importer
    base: Path
    objective_name: str
    """The training objective, a key of `adamix_train.training.objectives.OBJECTIVES`."""
    weights: tuple[float, ...] = ()
    """The weight of each module in every mean; empty keeps the weights stored in the checkpoint."""
    member_of: str = ""
    """Name of the checkpoint of whose mixture this is one module; empty for a mean."""
    tokenizer_folder: Path | None = None
    """Folder of the tokenizer; None is the checkpoint's."""
    pads_as_configured: bool = False
    """Pad with the token that the base's configuration names, if it does, rather than with the tokenizer's."""

    @property
    def kind(self) -> str:
        """Kind of adapter."""
        return self.importer.kind

    @property
    def r(self) -> int:
        """Rank or bottleneck width; 0 if the kind has none."""
        return self.importer.r

    @property
    def num_modules(self) -> int:
        """Modules of the mixture; 1 for anything that is no mixture."""
        return self.importer.num_modules

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
        """The adapter as a bank takes it; raises a `BankError` if a bank cannot hold it exactly."""
        return self.importer.adapter(self)

    @cached_property
    def reference(self) -> Any:
        """The model that an export must agree with: the checkpoint as its library loads it, in evaluation mode."""
        return self.importer.reference(self)

    def merged(self) -> PreTrainedModel:
        """Return the base with the adapter merged into it."""
        return self.importer.merged(self)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer, padding on the right as the server does."""
        tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_folder or self.folder, padding_side="right")
        configured = None if self.objective.is_generative else padding_token(tokenizer, load_config(self.base))
        if configured and (self.pads_as_configured or tokenizer.pad_token is None):
            tokenizer.pad_token = configured
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    @property
    def tokenizer_json(self) -> str:
        """Content of the tokenizer's `tokenizer.json`, made of its vocabulary where there is no such file."""
        file = (self.tokenizer_folder or self.folder) / TOKENIZER
        return file.read_text("utf-8") if file.is_file() else self.tokenizer.backend_tokenizer.to_str()

    def check_labels(self, examples: Iterable[Example], origin: str) -> None:
        """Raise a `DataError` if an example, read from `origin`, has a label that is not one of the checkpoint's."""
        unknown = {example.target for example in examples} - set(self.card.labels) if self.card.labels else ()
        if unknown:
            raise DataError(f"{origin} has labels that {self.name} does not know: {', '.join(sorted(unknown)[:5])}")

    def forget_reference(self) -> None:
        """Free the memory of `reference`; the next access loads it again."""
        self.__dict__.pop("reference", None)

    def load_base(self, folder: Path | None = None) -> Base:
        """Return the base, or the model in `folder`, with a new head where it has none, without gradients."""
        base = load_base(folder or self.base, self.objective.model, **self.objective.settings(self.card.labels))
        if not self.objective.is_generative:
            pad_as(self.tokenizer, base.model.config)
        base.model.requires_grad_(False)
        return base

    def base_model(self) -> PreTrainedModel:
        """Return the base with a new head, in evaluation mode, without gradients."""
        return self.load_base().model.eval()


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A checkpoint as the user names it."""

    name: str
    folder: Path
    base: str | None
    """Folder or Hub id of the base; None takes the one that the checkpoint names."""
    facts: Facts


IMPORTERS: dict[tuple[str, ...], str] = {
    (CARD,): "training_run:open_run",
    (CONFIG, "adapter.safetensors"): "adapterhub.importer:open_adapter",
    (CONFIG, "pytorch_adapter.bin"): "adapterhub.importer:open_adapter",
    ("adapter_fusion_config.json",): "adapterhub.importer:open_adapter",
    ("expert_soup.safetensors",): "original:open_original",
    ("pytorch_model_expert_soup.bin",): "original:open_original",
    (CONFIG,): "peft_adapter:open_adapter",
    ("config.json",): "whole_model:open_model",
}
"""Files by which a kind of checkpoint is recognized → module in `importers` and function; the first whose files are all
there.
"""


def open_checkpoint(argument: str, *, base: str | None = None, facts: Facts = NONE) -> Checkpoint:
    """Open `[NAME=]CHECKPOINT`, a folder or a Hub id, with the base at `base` or with the one that it names.

    `facts` complete a checkpoint of another tool; one of adamix-train states them itself.

    Raises:
        CheckpointError: the folder or the Hub's repository is missing, incomplete or holds no checkpoint.
        BaseError: the base is missing, or its weights or configuration are not those of training.
        ExportError: the checkpoint was trained with a method that is not exported, or a fact is missing.
    """
    given, place = split_argument(argument)
    folder = checkpoint_folder(place)
    for marks, importer in IMPORTERS.items():
        if all((folder / mark).is_file() for mark in marks):
            module, _, function = importer.partition(":")
            opened = getattr(import_module(f"adamix_export.checkpoint.importers.{module}"), function)
            name = check_adapter_name(given)
            checkpoint: Checkpoint = opened(Argument(name=name, folder=folder, base=base, facts=facts))
            return checkpoint
    raise CheckpointError(
        f"{folder} holds no checkpoint: it has no {CARD} (adamix-train; a run that was cut short leaves checkpoint-N "
        f"folders: resume it with --resume), no {CONFIG} (PEFT, adapters) and no config.json (a whole model)"
    )


def objective_name(task: str, base: Path) -> str:
    """Return the objective of a task for a base, a key of `OBJECTIVES`."""
    kind = TASKS[task].kind
    return "sequence-to-sequence" if kind == "generation" and load_config(base).is_encoder_decoder else kind

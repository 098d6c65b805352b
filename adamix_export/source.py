"""A checkpoint opened for export: its card, its collapsed adapter, and the model that PyTorch runs for comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import peft
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel

from adamix_export.collapse import Weights, collapse_checkpoint
from adamix_export.errors import ExportError
from adamix_train.base import base_folder, base_sha256, config_sha256, load_classifier
from adamix_train.checkpoint import WEIGHTS, Card, read_card
from adamix_train.errors import BaseError, CheckpointError
from adamix_train.peft_method import AdaMixConfig
from adamix_train.tasks.table import TASKS
from serve.adapter import check_name

REFERENCE_ROWS = 32


@dataclass(frozen=True)
class Source:
    """A checkpoint and the base it was trained on, checked against each other."""

    name: str
    folder: Path
    card: Card
    config: AdaMixConfig
    base: Path

    @cached_property
    def adapter(self) -> Weights:
        """The collapsed adapter."""
        return collapse_checkpoint(load_file(self.folder / WEIGHTS), self.config)

    @cached_property
    def reference(self) -> peft.PeftModel:
        """The checkpoint as PEFT loads it, in evaluation mode: what an export must agree with."""
        model = peft.PeftModel.from_pretrained(load_classifier(self.base, self.card.labels), self.folder)
        return model.eval()

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return PyTorch's logits (texts, labels), tokenized by transformers."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        batches = []
        for start in range(0, len(texts), REFERENCE_ROWS):
            batch = list(texts[start : start + REFERENCE_ROWS])
            inputs = tokenizer(
                batch, truncation=True, max_length=self.card.max_length, padding=True, return_tensors="pt"
            )
            with torch.inference_mode():
                batches.append(self.reference(**inputs).logits.numpy())
        return np.concatenate(batches)

    def logits_of_ids(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """Return PyTorch's logits (rows, labels) for token ids, each row run alone."""
        with torch.inference_mode():
            return np.concatenate([self.reference(input_ids=torch.tensor([ids])).logits.numpy() for ids in rows])


def open_source(argument: str, *, base: str | None = None) -> Source:
    """Open `[NAME=]FOLDER`; the base is `base`, or the one that the checkpoint names, and must have its hash."""
    name, found, path = argument.partition("=")
    folder = Path(path if found else argument)
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}")
    card = read_card(folder)
    task = TASKS[card.task]
    if task.kind != "classification" or len(task.inputs) > 1:
        raise ExportError(f"{folder} was trained for task {card.task}; export takes classifiers of single texts so far")
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
    return Source(check_name(name if found else folder.resolve().name), folder, card, config, where)


def base_model(source: Source) -> PreTrainedModel:
    """Return the source's base as a classifier in evaluation mode, without gradients."""
    return load_classifier(source.base, source.card.labels).requires_grad_(False).eval()

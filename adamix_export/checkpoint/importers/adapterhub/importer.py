"""Checkpoints of the `adapters` library: `adapter_config.json`, `adapter.safetensors`, and a head beside them.

The adapter is grafted onto the base as the library computes it, so that the model is one of transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint
from adamix_export.checkpoint.importers.adapterhub.families import FAMILIES
from adamix_export.checkpoint.importers.adapterhub.folder import Folder, read_folder
from adamix_export.checkpoint.importers.adapterhub.grafts import read_grafts
from adamix_export.checkpoint.importers.adapterhub.heads import MULTI_LABEL, TASK_TYPES, read_head
from adamix_export.checkpoint.importers.card import (
    CLASSIFIER,
    UNNAMED,
    Origin,
    architecture_task_type,
    configured_labels,
    configured_task_type,
    make_checkpoint,
)
from adamix_export.checkpoint.importers.grafted.importer import GraftedImporter, Head
from adamix_export.checkpoint.importers.grafted.modules import Graft
from adamix_export.checkpoint.importers.named_base import named_base, tokenizer_folder
from adamix_export.errors import ExportError
from adamix_train.base_model.load import load_config, load_tokenizer
from adamix_train.errors import BaseError


@dataclass(frozen=True)
class AdapterHubImporter(GraftedImporter):
    """Importer of an adapter of the library."""

    source: Folder
    num_modules = 1
    """The adapter is no mixture."""

    @property
    def kind(self) -> str:
        """Methods of the library: `bottleneck`, `lora`, `dora`, `ia3`."""
        return "-".join(dict.fromkeys(_kind(method) for method in self.source.methods))

    @property
    def r(self) -> int:
        """Largest rank or bottleneck width."""
        tensors = self.source.tensors
        widths = [
            tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(("adapter_up.weight", "lora_B"))
        ]
        return max(widths, default=0)

    def grafts(self, model: PreTrainedModel, checkpoint: Checkpoint) -> list[Graft]:
        """Return the adapter's grafts for a base."""
        return read_grafts(model, self.source)

    def head(self, model: PreTrainedModel, outputs: int) -> Head | None:
        """Return the head that was saved beside the adapter."""
        return None if self.source.head is None else read_head(model, self.source, self.source.head, outputs)


def open_adapter(argument: Argument) -> Checkpoint:
    """Open a folder that `save_adapter` of the library wrote."""
    source = read_folder(argument.folder)
    base = named_base(argument, source.base)
    config = load_config(base)
    _check_base(source, base, config)
    head = source.head
    labels = [] if head is None or all(UNNAMED.fullmatch(label) for label in head.labels) else list(head.labels)
    task_type = _task_type(source) or configured_task_type(config)
    own = config.num_labels if configured_task_type(config) == CLASSIFIER else None
    tokenizer = tokenizer_folder(argument.folder, base)
    origin = Origin(
        folder=argument.folder,
        base=base,
        config=config,
        named_labels=labels or ([] if head is not None else configured_labels(config)),
        tokenizer=load_tokenizer(tokenizer),
        task_type=task_type,
        outputs=(own if head is None else head.outputs) if task_type == CLASSIFIER else None,
        method="peft-lora",
    )
    checkpoint = make_checkpoint(origin, argument, AdapterHubImporter(source), tokenizer_folder=tokenizer)
    _check_task(source, argument)
    return checkpoint


def _kind(method: Mapping[str, Any]) -> str:
    if method["architecture"] != "lora":
        return "bottleneck"
    return "ia3" if method["composition_mode"] == "scale" else "dora" if method["use_dora"] else "lora"


def _check_base(source: Folder, base: Path, config: PretrainedConfig) -> None:
    """Raise an error if the adapter was trained on a base of another family or size."""
    if source.model_type not in FAMILIES:
        raise ExportError(
            f"{source.path} adapts a {source.model_type}, whose layers are not known; known are {', '.join(FAMILIES)}"
        )
    found = (config.model_type, config.hidden_size)
    if found != (source.model_type, source.hidden_size):
        raise BaseError(
            f"{source.path} was trained on a {source.model_type} of width {source.hidden_size}, and {base} is a "
            f"{found[0]} of width {found[1]}: name the base that it was trained on with --base"
        )


def _task_type(source: Folder) -> str | None:
    """Return the task type of the head, by PEFT's name; raise an error for one that is not exported."""
    if source.head is None:
        return None
    if source.head.config is None:
        task_type = architecture_task_type(source.head.model_class)
        if task_type is None:
            raise ExportError(f"{source.path} has the head of a {source.head.model_class}, which is not exported")
        return task_type
    head = source.head.config["head_type"]
    if head not in TASK_TYPES:
        raise ExportError(
            f"{source.path} has a head for {head}, which is not exported; known are {', '.join(TASK_TYPES)}"
        )
    return TASK_TYPES[head]


def _check_task(source: Folder, argument: Argument) -> None:
    """Raise an `ExportError` for a head that gives a text any number of labels, unless the user names a task."""
    config = None if source.head is None else source.head.config
    if config is not None and config["head_type"] == MULTI_LABEL and argument.facts.task is None:
        raise ExportError(
            f"{source.path} gives a text any number of labels ({MULTI_LABEL}); a bundle gives it one: say with --task "
            "classification if that is meant"
        )

"""Whole models of transformers: a fine-tuned classifier or generator, which is exported merged."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint
from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.importers.card import (
    CLASSIFIER,
    Origin,
    configured_labels,
    configured_task_type,
    make_checkpoint,
)
from adamix_export.errors import BankError
from adamix_train.base_model.load import load_config, load_tokenizer
from adamix_train.errors import BaseError, CheckpointError


@dataclass(frozen=True)
class WholeModelImporter:
    """Importer of a model whose weights were all trained."""

    kind = "full"
    """A whole model has no adapter."""
    r = 0
    num_modules = 1

    def adapter(self, checkpoint: Checkpoint) -> AdapterTensors:
        """Raise a `BankError`."""
        raise BankError(f"{checkpoint.folder} is a whole model, without an adapter: export it with --shape merged")

    def reference(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the model as transformers loads it."""
        base = checkpoint.load_base(checkpoint.folder)
        if base.new_modules:
            raise CheckpointError(
                f"{checkpoint.folder} has no weights of {', '.join(base.new_modules)}: it is a base, not a model that "
                "was trained for this task"
            )
        return base.model.eval()

    def merged(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the model."""
        return self.reference(checkpoint)


def open_model(argument: Argument) -> Checkpoint:
    """Open a folder that `save_pretrained` of a model wrote."""
    folder = argument.folder
    refuse_base(argument)
    config = load_config(folder)
    task_type = configured_task_type(config)
    origin = Origin(
        folder=folder,
        base=folder,
        config=config,
        named_labels=configured_labels(config),
        tokenizer=load_tokenizer(folder),
        task_type=task_type,
        outputs=config.num_labels if task_type == CLASSIFIER else None,
        method="full",
    )
    return make_checkpoint(origin, argument, WholeModelImporter(), pads_as_configured=True)


def refuse_base(argument: Argument) -> None:
    """Raise a `BaseError` if the user names a base."""
    if argument.base:
        raise BaseError(f"{argument.folder} is a whole model, which has no base: leave out --base")

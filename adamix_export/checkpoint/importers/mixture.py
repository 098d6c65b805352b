"""Mixtures, collapsed into one adapter."""

import warnings
from dataclasses import dataclass

import peft
from transformers import PreTrainedModel

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import AdapterTensors, collapse_checkpoint, with_module_weights
from adamix_export.checkpoint.importers.places import require_places
from adamix_export.checkpoint.importers.stored import read_tensors, require_all_loaded
from adamix_export.tracing.merged import merge
from adamix_train.mixture.projection import mixtures
from adamix_train.peft_method import AdaMixConfig
from adamix_train.training.module_weights import set_weights


@dataclass(frozen=True)
class MixtureImporter:
    """Importer of a mixture."""

    config: AdaMixConfig

    @property
    def kind(self) -> str:
        """Kind of adapter."""
        return self.config.kind

    @property
    def r(self) -> int:
        """Rank or bottleneck width."""
        return self.config.r

    @property
    def num_modules(self) -> int:
        """Modules of the mixture."""
        return self.config.num_modules

    def adapter(self, checkpoint: Checkpoint) -> AdapterTensors:
        """Return the collapsed adapter; raise an error if its tensors are not those of its configuration and base."""
        tensors = checkpoint_tensors(checkpoint)
        require_places(tensors, self.config.modules_to_save or (), checkpoint)
        return collapse_checkpoint(tensors, self.config)

    def reference(self, checkpoint: Checkpoint) -> peft.PeftModel:
        """Return the checkpoint as PEFT loads it, with the checkpoint's module weights.

        Raises:
            CheckpointError: the stored tensors are not those of which the configuration speaks.
        """
        _ = checkpoint.adapter  # whose checks come before PEFT takes memory for what the configuration declares
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing tensors, which are errors here
            model = peft.PeftModel.from_pretrained(checkpoint.base_model(), checkpoint.folder).eval()
        require_all_loaded(model, read_tensors(checkpoint.folder), checkpoint.folder, checkpoint.base)
        if checkpoint.weights:
            set_weights(mixtures(model), checkpoint.weights)
        return model

    def merged(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the base with the collapsed adapter merged into it."""
        return merge(checkpoint.base_model(), checkpoint.adapter)


def checkpoint_tensors(checkpoint: Checkpoint) -> AdapterTensors:
    """Return the stored tensors of a mixture, with `checkpoint.weights` as the module weights if there are any."""
    return with_module_weights(read_tensors(checkpoint.folder), checkpoint.weights)

"""Runs that trained a head alone, over a frozen base."""

from dataclasses import dataclass

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.importers.approximation import changed
from adamix_export.checkpoint.importers.bank_form import parameters
from adamix_export.checkpoint.importers.whole_model import WholeModelImporter


@dataclass(frozen=True)
class HeadImporter(WholeModelImporter):
    """Importer of a head, with the base that it was trained on."""

    kind = "head"

    def adapter(self, checkpoint: Checkpoint) -> AdapterTensors:
        """Return the weights of the head; a bank has one for each adapter."""
        before = checkpoint.base_model()
        tensors: AdapterTensors = {}
        for name, layer in checkpoint.reference.named_modules():
            if changed(before.get_submodule(name), layer):
                tensors |= parameters(name, layer)
        return tensors

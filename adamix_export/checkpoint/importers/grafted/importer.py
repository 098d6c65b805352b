"""The importer of adapters that are grafts: the base with each of them is the reference, merged or in a bank."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import HEAD, AdapterTensors
from adamix_export.checkpoint.importers.bank_form import parameters
from adamix_export.checkpoint.importers.grafted.modules import Graft
from adamix_export.checkpoint.importers.grafted.tensors import Tensors
from adamix_export.checkpoint.importers.outputs import output_layer
from adamix_train.base_model.load import load_base
from adamix_train.errors import CheckpointError


class Head(Protocol):
    """The prediction head of an adapter."""

    def attach(self, model: PreTrainedModel) -> None:
        """Give the classifier the head."""

    def provides(self, module: str) -> bool:
        """Return True if all weights of a module are the head's."""

    def bank_form(self) -> AdapterTensors:
        """Return the head's tensors in the form of a bank; raise a `BankError` if a bank does not hold it."""


@dataclass(frozen=True)
class OwnHead:
    """Linear layers of the classifier with the weights of a head."""

    layers: dict[str, dict[str, Tensor]]
    """Module → its parameters."""

    def attach(self, model: PreTrainedModel) -> None:
        """Put the weights into the classifier."""
        for module, weights in self.layers.items():
            model.get_submodule(module).load_state_dict(weights)

    def provides(self, module: str) -> bool:
        """Return True if all weights of a module are the head's."""
        return any(name == module or name.startswith(f"{module}.") for name in self.layers)

    def bank_form(self) -> AdapterTensors:
        """Return the parameters as heads."""
        return {
            f"{module}.{HEAD}.{name}": weight
            for module, weights in self.layers.items()
            for name, weight in weights.items()
        }


def own_head(model: PreTrainedModel, tensors: Tensors) -> OwnHead:
    """Return a head whose tensors have the names of the model's own; raise a `CheckpointError` for any other."""
    layers: dict[str, dict[str, Tensor]] = {}
    for top in sorted({name.partition(".")[0] for name in tensors.left}):
        for name, weight in model.named_parameters():
            if name.startswith(f"{top}."):
                module, _, parameter = name.rpartition(".")
                layers.setdefault(module, {})[parameter] = tensors.take(name, *weight.shape)
    tensors.require_all_taken()
    return OwnHead(layers)


class GraftedImporter(ABC):
    """Importer of an adapter that is put onto the base; its tensors are read anew for each model."""

    @abstractmethod
    def grafts(self, model: PreTrainedModel, checkpoint: Checkpoint) -> list[Graft]:
        """Return the adapter's grafts for a base; raise an error where they do not fit."""

    @abstractmethod
    def head(self, model: PreTrainedModel, outputs: int) -> Head | None:
        """Return the head for a base and a number of outputs; None if the adapter has none."""

    def adapter(self, checkpoint: Checkpoint) -> AdapterTensors:
        """Return the adapter's tensors in the form of a bank."""
        model = self._base(checkpoint)
        tensors: AdapterTensors = {}
        for graft in self.grafts(model, checkpoint):
            tensors |= graft.bank_form()
        if head := self.head(model, len(checkpoint.labels)):
            tensors |= head.bank_form()
        if not checkpoint.objective.is_generative:
            output = output_layer(model.config)
            if f"{output}.{HEAD}.weight" not in tensors:
                tensors |= parameters(output, model.get_submodule(output))
        return {name: tensor.detach().float() for name, tensor in tensors.items()}

    def reference(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the base with the adapter beside its weights."""
        model = self._base(checkpoint)
        for graft in self.grafts(model, checkpoint):
            graft.attach(model)
        return self._with_head(model, checkpoint)

    def merged(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the base with the adapter in its weights as far as possible."""
        model = self._base(checkpoint)
        for graft in self.grafts(model, checkpoint):
            graft.merge(model)
        return self._with_head(model, checkpoint)

    def _with_head(self, model: PreTrainedModel, checkpoint: Checkpoint) -> PreTrainedModel:
        if head := self.head(model, len(checkpoint.labels)):
            head.attach(model)
        return model.requires_grad_(False).eval()

    def _base(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the base; raise a `CheckpointError` if it has a part with weights that neither side has."""
        objective = checkpoint.objective
        base = load_base(checkpoint.base, objective.model, **objective.settings(checkpoint.card.labels))
        model = base.model.requires_grad_(False).eval()
        if base.new_modules:
            head = self.head(model, len(checkpoint.labels))
            if lost := [module for module in base.new_modules if head is None or not head.provides(module)]:
                raise CheckpointError(
                    f"neither {checkpoint.base} nor {checkpoint.folder} has the weights of {', '.join(lost)}: save the "
                    "adapter again with its head, or name the base that has them, with --base"
                )
        return model
